"""`make report` and `make compare`: the page, in a real browser, and the summary in Markdown."""

import base64
import csv
import hashlib
import html
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from playwright.sync_api import Page, expect
from scipy.stats import beta

from stages import confusion, history, predictions, report
from stages.evaluate import measure_test
from stages.report import Part
from tests.clones import Clone, error_of
from tests.pages.browser import Pages
from tools.pages.compare import COMPARISON, PICTURES, REPORT, page, plain
from tools.pages.digits import ACROSS, SHOWN, sheet
from tools.pages.subject import Subject, compare_runs, differing, headlines
from tools.runs.lock import Lock
from tools.runs.paired import compare_predictions
from tools.runs.revision import resolve
from tools.runs.run import flat, load

METRICS, PREDICTIONS = str(report.PATH), str(predictions.PATH)

# Numbers and texts


def test_nested_values_are_named_by_their_path() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2, 3]}}, "e": "f"}) == {"a.b": 1, "a.c.d": [2, 3], "e": "f"}


def test_only_differences_are_listed_and_a_missing_value_is_none() -> None:
    rows = differing({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": 4})
    assert [(row.name, row.before, row.after) for row in rows] == [
        ("b", "2", "3"), ("c", "None", "none"), ("d", "none", "4"),
    ]  # fmt: skip


def test_the_matrix_has_all_ten_actual_and_predicted_digits() -> None:
    counts = confusion.count([0, 0, 9], [0, 1, 1])
    assert counts.shape == (10, 10)
    assert counts.sum() == 3
    assert (counts[0, 0], counts[0, 1], counts[9, 1]) == (1, 1, 1)


def test_a_sheet_has_the_images_in_their_order(tmp_path: Path) -> None:
    images = np.zeros((ACROSS + 1, 28, 28), np.float32)
    images[1, 0, 0] = images[ACROSS, 27, 27] = 1
    file = tmp_path / "sheet.png"
    file.write_bytes(base64.b64decode(sheet(images).removeprefix("data:image/png;base64,")))
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (2 * 28, ACROSS * 28)
    assert {tuple(place) for place in np.argwhere(pixels == 0).tolist()} == {(0, 28), (55, 27)}
    assert (pixels == 255).sum() == pixels.size - 2


MARKUP = "<img src=x onerror=alert(1)>&|`*_[a](b)#@\n~"


def test_markup_in_a_text_is_escaped_for_markdown() -> None:
    written = plain(MARKUP)
    assert not set(written) & set("<>|`*_[]~@\n\"'")
    assert html.unescape(written) == " ".join(MARKUP.split())


# Commits of models with known mistakes


def commit_model(clone: Clone, name: str, mistakes: dict[int, int], confidence: float = 0.9) -> None:
    """Commit the reports of a model with these mistakes: index of a test image -> predicted digit."""
    actual = pd.read_csv(clone.folder / PREDICTIONS)["actual"].to_numpy(np.uint8)
    predicted = actual.copy()
    predicted[list(mistakes)] = list(mistakes.values())
    probabilities = np.full((len(actual), 10), (1 - confidence) / 9, np.float32)
    # Later images have a higher confidence.
    probabilities[np.arange(len(actual)), predicted] = confidence + np.arange(len(actual)) / 10_000
    predictions.save(predictions.make(actual, probabilities), clone.folder / predictions.PATH)
    confusion.save(confusion.count(actual, predicted), clone.folder / confusion.PATH)
    recorded = report.load(clone.folder / report.PATH)
    measured = recorded.model_copy(update={"test": measure_test(actual, probabilities)})
    report.save(measured, clone.folder / report.PATH)
    for picture in PICTURES.values():
        with (clone.folder / picture).open("ab") as file:
            file.write(name.encode())
    clone.run("dvc", "commit", "--force", "--quiet", "evaluate")
    clone.commit(name)
    clone.run("git", "tag", name)


@pytest.fixture(scope="module")
def models(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository with tagged models: `base` is wrong on 30 images, `better` on 10 of them, `worse` on 60."""
    clone = Clone(tmp_path_factory.mktemp("models") / "clone")
    shutil.copytree(first_run.folder, clone.folder, symlinks=True)
    actual = pd.read_csv(clone.folder / PREDICTIONS)["actual"].tolist()
    wrong = {index: (actual[index] + 1) % 10 for index in range(60)}
    commit_model(clone, "base", {index: wrong[index] for index in range(30)})
    commit_model(clone, "better", {index: wrong[index] for index in range(10)})
    commit_model(clone, "worse", wrong)
    commit_model(clone, "equal", {index: wrong[index] for index in range(30)}, confidence=0.8)
    commit_model(clone, "never-a-7", {index: 1 for index, digit in enumerate(actual) if digit == 7})
    return clone


def compare(clone: Clone, *revisions: str, exit_code: int = 0) -> str:
    return clone.run("python", "-m", "tools.pages.compare", *revisions, exit_code=exit_code)


def rows_of(clone: Clone, revision: str) -> list[dict[str, str]]:
    return list(csv.DictReader(clone.run("git", "show", f"{revision}:{PREDICTIONS}").splitlines()))


def fates(clone: Clone, before: str, after: str) -> dict[str, list[str]]:
    """List the indexes of the images that were fixed, were broken or stayed wrong, from the files alone."""
    found: dict[str, list[str]] = {"Newly fixed": [], "Newly broken": [], "Still wrong": []}
    for old, new in zip(rows_of(clone, before), rows_of(clone, after), strict=True):
        was, is_ = old["predicted"] == old["actual"], new["predicted"] == new["actual"]
        if not (was and is_):
            found["Still wrong" if was == is_ else "Newly fixed" if is_ else "Newly broken"].append(old["index"])
    return found


def shown(page: Page, title: str) -> list[str]:
    """List the indexes of the visible images of a group, in their order."""
    items = page.locator(".card", has=page.get_by_role("heading", name=re.compile(f"^{title}"))).locator("li:visible")
    return [re.findall(r"no\. (\d+)", text)[0] for text in items.all_text_contents()]


@pytest.mark.parametrize(
    ("after", "verdict"),
    [("better", "Better"), ("worse", "Worse"), ("equal", "Inconclusive"), ("never-a-7", "Inconclusive")],
)
def test_the_page_agrees_with_the_files(after: str, verdict: str, models: Clone, pages: Pages) -> None:
    printed = compare(models, "base", after)
    page = pages.open(models.folder / COMPARISON)
    expect(page.locator("svg.marks")).to_have_count(5)
    expect(page.locator("#verdict")).to_contain_text(verdict)
    expected = fates(models, "base", after)
    assert f"{len(expected['Newly fixed'])} fixed, {len(expected['Newly broken'])} broken" in printed
    for title, indexes in expected.items():
        expect(page.get_by_role("heading", name=re.compile(f"^{title}"))).to_have_text(f"{title}: {len(indexes)}")
        # The most confident image, which is the last, comes first.
        assert shown(page, title) == indexes[::-1]
    recorded = {name: json.loads(models.run("git", "show", f"{name}:{METRICS}"))["test"] for name in ("base", after)}
    row = page.get_by_role("row", name=re.compile("^test accuracy"))
    difference = 100 * (recorded[after]["accuracy"] - recorded["base"]["accuracy"])
    for text in (
        f"{recorded['base']['accuracy']:.2%}",
        f"{recorded[after]['accuracy']:.2%}",
        f"{difference:+.2f} points",
    ):
        expect(row).to_contain_text(text)
    # A difference is called better or worse only if the test proves it.
    judged = page.locator("#result td").get_by_text(re.compile("better|worse"))
    expect(judged).to_have_count(0 if verdict == "Inconclusive" else 5)
    for figures, old in zip(recorded[after]["per_class"], recorded["base"]["per_class"], strict=True):
        row = page.locator("table.arrows tbody tr").nth(figures["digit"])
        expect(row).to_contain_text(f"{old['recall']:.2%} → {figures['recall']:.2%}")


def test_only_figures_of_the_same_images_are_judged(models: Clone) -> None:
    before, after = (load(resolve(name, models.folder)) for name in ("base", "better"))
    after = replace(after, report=after.report.model_copy(update={"validation": Part(accuracy=1.0, loss=0.0)}))
    judged = {row.name: row.judgement for row in headlines(compare_runs(before, after))}
    assert judged["validation accuracy"] == judged["validation loss (nats)"] == judged["test accuracy"] == "better"
    text = after.lock.model_dump_json().replace(after.lock.hashes["data/processed/validation.npz"], "0" * 32)
    other = replace(after, lock=Lock.model_validate_json(text))
    judged = {row.name: row.judgement for row in headlines(compare_runs(before, other))}
    assert judged["validation accuracy"] == judged["validation loss (nats)"] == ""
    assert judged["test accuracy"] == "better"


def test_a_value_that_an_older_commit_lacks_is_not_recorded_and_not_judged(models: Clone) -> None:
    before, after = (load(resolve(name, models.folder)) for name in ("base", "better"))
    test = before.report.test.model_copy(update={"calibration_error": None})
    older = replace(before, report=before.report.model_copy(update={"test": test, "model": None}))
    rows = {row.name: row for row in headlines(compare_runs(older, after))}
    assert rows["calibration error"][1] == rows["parameters of the network"][1] == "not recorded"
    assert rows["calibration error"][3:] == rows["parameters of the network"][3:] == ("", "")
    assert rows["test errors"].judgement == "better"


def test_both_matrices_have_the_counts_of_the_predictions(models: Clone, pages: Pages) -> None:
    compare(models, "base", "never-a-7")
    page = pages.open(models.folder / COMPARISON)
    expect(page.locator("svg.marks")).to_have_count(5)
    counts = {
        name: [
            sum((row["actual"], row["predicted"]) == (str(actual), str(predicted)) for row in rows_of(models, name))
            for actual in range(10) for predicted in range(10)
        ]
        for name in ("base", "never-a-7")
    }  # fmt: skip
    drawn = page.locator("#matrices .mark-text.role-mark text").all_text_contents()
    assert sorted(text for text in drawn if "%" not in text) == sorted(map(str, counts["base"] + counts["never-a-7"]))
    differences = [new - old for old, new in zip(*counts.values(), strict=True)]
    drawn = page.locator("#difference .mark-text.role-mark text").all_text_contents()
    drawn = [text.replace("\N{MINUS SIGN}", "-") for text in drawn]
    assert sorted(drawn) == sorted(f"{count:+}" if count else "0" for count in differences)
    page.get_by_text("As a table").nth(2).click()
    cells = page.locator("#where details tbody td").all_text_contents()
    assert cells == [f"{old} → {new}" for old, new in zip(*counts.values(), strict=True)]


def test_a_click_on_a_cell_shows_its_digits_and_so_does_the_keyboard(models: Clone, pages: Pages) -> None:
    compare(models, "base", "better")
    page = pages.open(models.folder / COMPARISON)
    expect(page.locator("svg.marks")).to_have_count(5)
    before = rows_of(models, "base")
    wrong = before[20]  # fixed
    cell = (wrong["actual"], wrong["predicted"])
    expected = [row["index"] for row in before if (row["actual"], row["predicted"]) == cell][::-1]
    marks = page.locator("#matrices .mark-rect path")
    labels = marks.evaluate_all("marks => marks.map(mark => mark.getAttribute('aria-label'))")
    parts = ("revision: base", f"actual digit: {cell[0]};", f"predicted digit: {cell[1]};")
    (number,) = [number for number, label in enumerate(labels) if all(part in label for part in parts)]
    marks.nth(number).click(force=True)  # the click may hit the cell's text, as a user's click does
    found = [index for title in ("Newly fixed", "Newly broken", "Still wrong") for index in shown(page, title)]
    assert sorted(found) == sorted(expected)
    expect(page.get_by_role("status")).to_have_text(f"{len(expected)} of the 30 wrong digits on this page")
    page.get_by_role("button", name="All").press("Enter")
    expect(page.get_by_role("status")).to_have_text("30 of the 30 wrong digits on this page")
    chosen = page.locator("#filter")
    chosen.get_by_label("actual digit").focus()
    page.keyboard.press(cell[0])
    chosen.get_by_label("predicted digit").focus()
    page.keyboard.press(cell[1])
    chosen.get_by_label("predicted by").focus()
    page.keyboard.press("b")
    expect(page.get_by_role("status")).to_have_text(f"{len(expected)} of the 30 wrong digits on this page")
    # `better` classifies the image correctly.
    chosen.get_by_label("predicted by").select_option("after")
    assert wrong["index"] not in shown(page, "Newly fixed")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1366, 390])
def test_the_page_can_be_read_at_any_width_in_light_and_dark(
    color_scheme: Literal["light", "dark"], width: int, models: Clone, pages: Pages
) -> None:
    compare(models, "base", "better")
    page = pages.open(models.folder / COMPARISON, width, color_scheme)
    expect(page.locator("svg.marks")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5  # WCAG 2, AA


# The contrast of every text on a card or the page with its background.
CONTRASTS = """() => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour.endsWith(", 0)") ? behind(element.parentElement) : colour;
  };
  const texts = "h1, h2, h3, p, a, th, td, dt, dd, li p, li span, caption, figcaption, summary, button";
  return [...document.querySelectorAll(texts)]
    .filter((element) => element.textContent.trim() && element.checkVisibility())
    .map((element) => [getComputedStyle(element).color, behind(element)].map(luminance))
    .map(([one, other]) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
}"""


def test_the_report_shows_only_the_committed_run(models: Clone, pages: Pages) -> None:
    models.run("git", "checkout", "--quiet", "worse")
    compare(models)
    page = pages.open(models.folder / REPORT)
    expect(page.locator("svg.marks")).to_have_count(3)
    recorded = json.loads(models.run("git", "show", f"worse:{METRICS}"))["test"]
    expect(page.locator(".verdict")).to_have_text(f"{recorded['accuracy']:.2%}")
    images, errors = len(rows_of(models, "worse")), recorded["errors"]
    low = beta.ppf(0.025, images - errors, errors + 1)
    high = beta.ppf(0.975, images - errors + 1, errors)
    expect(page.locator(".lead")).to_contain_text(f"(95% interval {low:.2%} to {high:.2%}); {errors} are misclassified")
    wrong = [row["index"] for row in rows_of(models, "worse") if row["actual"] != row["predicted"]]
    assert shown(page, "Wrong") == wrong[::-1]
    assert page.locator(".image").count() == len(wrong)
    params = flat(yaml.safe_load((models.folder / "params.yaml").read_text()))
    for name, value in params.items():
        expect(page.get_by_role("row", name=f"{name} {value}")).to_be_attached()
    # git ignores the page.
    assert models.run("git", "status", "--porcelain") == ""


# Inputs


def test_nothing_is_trained_and_tensorflow_is_not_imported(models: Clone) -> None:
    content = models.content()
    models.run(
        sys.executable, "-c",
        "import sys; from tools.pages import compare; sys.argv[1:] = ['base', 'better']; compare.main();"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)",
    )  # fmt: skip
    assert models.content() == content


def test_a_missing_file_is_named_and_the_page_is_made_without_it(models: Clone, tmp_path: Path, pages: Pages) -> None:
    clone = Clone(tmp_path / "clone")
    clone.environment |= models.environment
    models.run("git", "clone", "--quiet", str(models.folder), str(clone.folder))
    printed = compare(clone, "base", "better")
    page = pages.open(clone.folder / COMPARISON)
    for path in ("data/processed/test.npz", "models/environment.json"):
        assert re.search(rf"{path} at \w+: neither in the cache nor in the storage; .*`dvc push", printed)
        expect(page.locator(".notice", has_text=path).first).to_contain_text("dvc push")
    expect(page.locator("svg.marks")).to_have_count(5)
    assert page.locator(".image").count() == 0
    assert sorted(shown(page, "Still wrong")) == sorted(fates(models, "base", "better")["Still wrong"])


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        (["nothing"], "nothing: no commit, branch, tag or experiment here"),
        (["base", "base"], "base and base are the same commit: nothing to compare"),
    ],
)
def test_an_impossible_comparison_ends_with_one_line(revisions: list[str], message: str, models: Clone) -> None:
    assert message in error_of(compare(models, *revisions, exit_code=1))


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (METRICS, lambda text: text.replace('"test"', '"toast"'), "reports/metrics.json at HEAD: test: Field required"),
        (METRICS, lambda _: "[]", "reports/metrics.json at HEAD: the whole file: Input should be an object"),
        (METRICS, lambda _: "{", "reports/metrics.json at HEAD: the whole file: Invalid JSON"),
        (
            str(history.PATH),
            lambda text: text.replace("epoch", "epic"),
            "reports/history.csv at HEAD: expected the columns epoch",
        ),
        (str(history.PATH), lambda text: text.splitlines()[0] + "\n", "and at least one row, found 0 rows"),
        (str(history.PATH), lambda text: re.sub(r"(?<=\n1,)[^,]+", "nan", text), "expected finite numbers in epoch"),
        (
            PREDICTIONS,
            lambda text: re.sub(r"0\.\d+", "sure", text),
            "at HEAD: expected the index from 0",
        ),
        (PREDICTIONS, lambda _: None, "reports/predictions.csv at HEAD: not in the commit"),
    ],
)
def test_an_invalid_file_ends_with_one_line(
    path: str, change: Callable[[str], str | None], message: str, models: Clone, tmp_path: Path
) -> None:
    clone = Clone(tmp_path / "clone")
    shutil.copytree(models.folder, clone.folder, symlinks=True)
    changed = change((clone.folder / path).read_text())
    if changed is None:
        (clone.folder / path).unlink()
    else:
        (clone.folder / path).write_text(changed)
        rehash(clone, path)
    clone.commit("Changed")
    (clone.folder / COMPARISON).write_text("earlier")
    printed = error_of(compare(clone, "base", exit_code=1))
    assert message in printed
    assert (clone.folder / COMPARISON).read_text() == "earlier"


def rehash(clone: Clone, path: str) -> None:
    """Write a file's current checksum to dvc.lock."""
    content = (clone.folder / path).read_bytes()
    lock = clone.folder / "dvc.lock"
    text = lock.read_text()
    pattern = rf"(- path: {path}\n(?:      \w+: .*\n)*?      md5: )\w+"
    lock.write_text(re.sub(pattern, rf"\g<1>{hashlib.md5(content, usedforsecurity=False).hexdigest()}", text))


def test_runs_on_different_test_images_are_shown_side_by_side(models: Clone, tmp_path: Path, pages: Pages) -> None:
    clone = Clone(tmp_path / "clone")
    shutil.copytree(models.folder, clone.folder, symlinks=True)
    clone.run("git", "checkout", "--quiet", "better")
    lock = clone.folder / "dvc.lock"
    text = lock.read_text()
    lock.write_text(
        re.sub(r"(- path: data/processed/test\.npz\n(?:      .*\n)*?      md5: )\w+", rf"\g<1>{'a' * 32}", text)
    )
    assert lock.read_text() != text
    clone.commit("Other images")
    printed = compare(clone, "base")
    assert "base and HEAD were tested on other images (data/processed/test.npz: MD5 " in printed
    page = pages.open(clone.folder / COMPARISON)
    expect(page.locator("svg.marks")).to_have_count(3)
    expect(page.locator("#verdict")).to_have_text("◇ Not comparable")
    expect(page.get_by_role("row", name=re.compile("^test errors"))).to_contain_text(re.compile(r"30\s*10\s*-20$"))
    expect(page.get_by_role("heading", name="Which digits?")).to_have_count(0)
    written = html.unescape(compare(clone, "base", "--markdown"))
    assert written.startswith("### ◇ Not comparable: base to HEAD\n\nbase and HEAD were tested on other images")


def test_what_was_edited_without_a_run_is_named_and_not_shown(models: Clone, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    shutil.copytree(models.folder, clone.folder, symlinks=True)
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text().replace("learning_rate: 0.01", "learning_rate: 1e-2"))
    clone.commit("The same rate in other letters")
    run = load(resolve("HEAD", clone.folder))
    assert (run.params["train.learning_rate"], run.not_run) == (0.01, [])
    assert run.packages["numpy"]
    params.write_text(params.read_text().replace("epochs: 2", "epochs: 50"))
    with (clone.folder / "requirements.txt").open("a") as file:
        file.write("numpy==0.0.1\n")
    clone.commit("No run")
    run = load(resolve("HEAD", clone.folder))
    assert (run.params["train.epochs"], run.packages) == (2, {})
    of_params, of_packages = run.not_run
    assert "train.epochs is 50 there and was 2 in the run; check it out, run `dvc repro`" in of_params
    assert of_packages.startswith("requirements.txt at HEAD is not that of the run, so its packages are not shown")
    written = html.unescape(compare(clone, "base", "--markdown"))
    assert f"Not run: {of_params}" in written
    assert f"Not run: {of_packages}" in written
    assert "train.epochs | 50" not in written


# Markup in every text


class Tags(HTMLParser):
    """Collects the tags and the event attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(f"{tag} {name}" for name, _ in attrs if name.startswith("on"))}


OWN_TAGS = (
    "a body br b button caption code dd details div dl dt figcaption figure footer form h1 h2 h3 head header html "
    "label li main meta nav option p script section select span style summary table tbody td th thead title tr ul"
)
TEXT = "x</script><i>&'\"|`a`<img/src=x/onerror=alert(1)>"


@pytest.fixture
def marked(models: Clone, tmp_path: Path) -> Clone:
    """Two commits that differ in texts with markup, in every file that texts are read from and in the branch's name."""
    clone = Clone(tmp_path / "clone")
    shutil.copytree(models.folder, clone.folder, symlinks=True)
    params = yaml.safe_load((clone.folder / "params.yaml").read_text())
    params["train"][f"name{TEXT}"] = f"value{TEXT}"
    (clone.folder / "params.yaml").write_text(yaml.safe_dump(params))
    with (clone.folder / "requirements.txt").open("a") as file:
        file.write(f"package=={TEXT}\n")
    record = json.loads((clone.folder / "models/environment.json").read_text())
    (clone.folder / "models/environment.json").write_text(json.dumps(record | {f"part{TEXT}": f"is{TEXT}"}))
    clone.run("dvc", "commit", "--force", "--quiet", "train")
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text())
    lock["stages"]["train"]["deps"].append({"path": f"file{TEXT}.py", "hash": "md5", "md5": f"hash{TEXT}", "size": 1})
    (clone.folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    clone.run("git", "checkout", "--quiet", "-b", TEXT)
    clone.commit("Markup")
    return clone


def test_markup_in_any_text_is_shown_as_text(marked: Clone, pages: Pages) -> None:
    compare(marked, "base", TEXT)
    text = (marked.folder / COMPARISON).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.found <= set(OWN_TAGS.split())
    page = pages.open(marked.folder / COMPARISON)
    page.on("dialog", lambda dialog: pages.faults.append(f"dialog: {dialog.message}"))
    expect(page.locator("svg.marks")).to_have_count(5)
    assert page.locator("img").count() == 0
    expect(page.locator("h1")).to_contain_text(TEXT)
    changed = page.locator("#changed")
    for name, value in (("train.name", "value"), ("package", ""), ("part", "is"), ("file", "hash"[:4])):
        header = page.get_by_role("rowheader", name=re.compile(rf"^{name}"))
        expect(changed.get_by_role("row").filter(has=header)).to_contain_text(value + TEXT[:8])


def test_markup_in_any_text_is_shown_as_text_in_markdown(marked: Clone) -> None:
    written = compare(marked, "base", TEXT, "--markdown")
    assert "<" not in written
    assert "`" not in written
    assert f"train.name{TEXT}" in html.unescape(written)
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4, 5, 7}


# The summary in Markdown


def test_markdown_has_the_main_results(models: Clone) -> None:
    written = compare(models, "base", "better", "--markdown", "--pictures", "https://example.org/o/r/raw/")
    assert html.unescape(written).startswith("### ▲ Better: base to better\n")
    assert "20 fixed, 0 broken" in html.unescape(written)
    recorded = {name: json.loads(models.run("git", "show", f"{name}:{METRICS}"))["test"] for name in ("base", "better")}
    assert f"| test errors | {recorded['base']['errors']} | {recorded['better']['errors']} | -20 better |" in written
    for name in ("base", "better"):
        commit = models.run("git", "rev-parse", name).strip()
        # The pictures are links to committed files, and nothing is embedded.
        links = re.findall(rf"\(https://example\.org/o/r/raw/{commit}/([^)]*)\)", html.unescape(written))
        assert links == ["reports/confusion_matrix.png", "reports/learning_curves.png", "reports/mistakes.png"]
        for link in links:
            models.run("git", "cat-file", "-e", f"{commit}:{link}")
    assert "data:" not in written


def test_markdown_is_short_if_no_result_changed(models: Clone, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    clone.environment |= models.environment
    models.run("git", "clone", "--quiet", str(models.folder), str(clone.folder))
    clone.run("git", "checkout", "--quiet", "-B", "main", "better")
    (clone.folder / "README.md").write_text("Other words\n")
    clone.commit("Other words")
    written = html.unescape(compare(clone, "better", "--markdown", "--pictures", "https://example.org/o/r/raw"))
    assert written.startswith("### ◆ The same predictions: better to HEAD\n\nHEAD is not proven different")
    assert "0 fixed, 0 broken" in written
    assert [line for line in written.splitlines() if line.startswith("**")] == [
        *(f"**{what}**: the same" for what in ("Parameters", "Data", "Code")),
        "**Environment**",
    ]
    assert "| models/environment.json | not known | not known |" in written
    assert "![" not in written
    assert re.search(
        r"Missing: models/environment.json at \w+: neither in the cache nor in the storage; .*`dvc push", written
    )


def test_a_page_with_the_most_images_is_below_three_megabytes(models: Clone) -> None:
    # Images of noise compress worst, and all three groups are full.
    images = 3 * SHOWN
    table = pd.DataFrame({"index": range(images), "actual": 5, "predicted": 5, "confidence": 0.123456})
    wrong = table.assign(predicted=6)
    before, after = (load(resolve(name, models.folder)) for name in ("base", "better"))
    before = replace(before, predictions=wrong.where(table["index"] < 2 * SHOWN, table))
    after = replace(after, predictions=wrong.where(table["index"] >= SHOWN, table))
    assert before.predictions["predicted"].value_counts().to_dict() == {6: 2 * SHOWN, 5: SHOWN}
    compared = compare_predictions(
        *map(np.asarray, (table["actual"], before.predictions["predicted"], after.predictions["predicted"]))
    )
    noise = np.random.default_rng(0).random((images, 28, 28), np.float32)
    made = page(Subject(after, before, compared), noise, "")
    assert made.count("<li ") == images
    assert len(made.encode()) < 3e6
