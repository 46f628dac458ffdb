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
from tests.pages.browser import PAPER, WIDTHS, Pages, layout_faults, small_targets
from tools.pages.compare import COMPARISON
from tools.pages.digits import SHOWN, picture
from tools.pages.page import PICTURES, PREVIEW, page, plain, short
from tools.pages.report import REPORT
from tools.pages.subject import Subject, compare_runs, differing, headlines
from tools.runs.paired import MINUS, compare_predictions, signed
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


def test_a_picture_has_the_image_black_on_white(tmp_path: Path) -> None:
    image = np.zeros((28, 28), np.float32)
    image[27, 3] = 1
    file = tmp_path / "digit.png"
    file.write_bytes(base64.b64decode(picture(image).removeprefix("data:image/png;base64,")))
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (28, 28)
    assert np.argwhere(pixels == 0).tolist() == [[27, 3]]
    assert (pixels == 255).sum() == pixels.size - 1


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (1.234, ",.2f", "+1.23"), (-1.234, ",.2f", f"{MINUS}1.23"), (-0.001, ",.2f", "0.00"), (0.0, ",.2f", "0.00"),
        (0, ",", "0"), (-1234, ",", f"{MINUS}1,234"), (0.004, ",.2f", "0.00"),
    ],
)  # fmt: skip
def test_a_difference_has_a_true_minus_and_zero_has_no_sign(value: float, form: str, shown: str) -> None:
    assert signed(value, form) == shown


def test_a_long_name_is_shortened_in_its_middle() -> None:
    assert short("two-epochs") == "two-epochs"
    assert short("augmentation-with-muon-and-forty-epochs") == "augmentation-w…-forty-epochs"
    assert len(short("x" * 500)) == 28


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
    for path in PICTURES.values():
        with (clone.folder / path).open("ab") as file:
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


def open_comparison(clone: Clone, pages: Pages, *revisions: str, width: int = 1366, charts: int = 3) -> Page:
    """Make and open the page of two revisions, and wait for its charts."""
    compare(clone, *revisions)
    page = pages.open(clone.folder / COMPARISON, width)
    expect(page.locator("svg.marks")).to_have_count(charts)
    return page


def show_all(page: Page) -> None:
    page.locator(".more").evaluate_all("buttons => buttons.forEach(button => button.click())")


def rows_of(clone: Clone, revision: str) -> list[dict[str, str]]:
    return list(csv.DictReader(clone.run("git", "show", f"{revision}:{PREDICTIONS}").splitlines()))


def fates(clone: Clone, before: str, after: str) -> dict[str, list[str]]:
    """List the indexes of the images that were fixed, were broken or stayed wrong, from the files alone."""
    found: dict[str, list[str]] = {"Newly broken": [], "Newly fixed": [], "Still wrong": []}
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
    [("better", "Better"), ("worse", "Worse"), ("never-a-7", "Inconclusive")],
)
def test_the_page_agrees_with_the_files(after: str, verdict: str, models: Clone, pages: Pages) -> None:
    printed = compare(models, "base", after)
    page = pages.open(models.folder / COMPARISON)
    expect(page.locator("svg.marks")).to_have_count(3)
    expect(page.locator("#verdict")).to_contain_text(verdict)
    expected = fates(models, "base", after)
    assert f"{len(expected['Newly fixed'])} fixed, {len(expected['Newly broken'])} broken" in printed
    # Broken digits come first; groups without digits are left out.
    headings = page.locator(".group h3").all_text_contents()
    assert headings == [f"{title}: {len(indexes)}" for title, indexes in expected.items() if indexes]
    for title, indexes in expected.items():
        # The most confident image, which is the last, comes first.
        assert shown(page, title) == indexes[::-1][:PREVIEW]
        link = page.locator(".tiles").get_by_role("link", name=title)
        expect(link).to_have_count(1 if indexes else 0)
        if indexes:
            expect(link).to_contain_text(str(len(indexes)))
            link.click()
            expect(page.get_by_role("heading", name=re.compile(f"^{title}"))).to_be_in_viewport()
    show_all(page)
    for title, indexes in expected.items():
        assert shown(page, title) == indexes[::-1]
    recorded = {name: json.loads(models.run("git", "show", f"{name}:{METRICS}"))["test"] for name in ("base", after)}
    row = page.get_by_role("row", name=re.compile("^test accuracy"))
    difference = 100 * (recorded[after]["accuracy"] - recorded["base"]["accuracy"])
    for text in (
        f"{recorded['base']['accuracy']:.2%}",
        f"{recorded[after]['accuracy']:.2%}",
        f"{signed(difference)} points",
    ):
        expect(row).to_contain_text(text)
    # A difference is called better or worse only if it was tested and the test proves it.
    judged = page.locator("#metrics tr", has=page.locator(".better, .worse")).get_by_role("rowheader")
    assert judged.all_text_contents() == ([] if verdict == "Inconclusive" else ["test accuracy", "test errors"])
    for figures, old in zip(recorded[after]["per_class"], recorded["base"]["per_class"], strict=True):
        row = page.locator("table.arrows tbody tr").nth(figures["digit"])
        expect(row).to_contain_text(f"{100 * old['recall']:.2f} → {100 * figures['recall']:.2f}")


def test_the_answer_comes_first(models: Clone, pages: Pages) -> None:
    page = open_comparison(models, pages, "base", "worse")
    order = page.locator("main section").evaluate_all("sections => sections.map(section => section.id)")
    assert order == ["result", "digits", "where", "metrics", "learning"]
    assert page.locator("#broken").evaluate("group => group.getBoundingClientRect().top") < 900
    expect(page.locator("#summary")).to_have_text("Parameters, data, code and environment are the same.")
    assert page.title() == "“base” 91.64% → “worse” 83.29%: mnist-lstm"
    about = page.locator("header p").first
    commit = models.run("git", "rev-parse", "base").strip()
    expect(about).to_have_text(
        re.compile(f"^“base”: commit {commit[:10]} “base”, A, \\d+ \\w+ 20\\d\\d, \\d\\d:\\d\\d$")
    )
    expect(page.locator(".lead").first).to_have_text(re.compile("^“worse” is worse than “base” on 359 test images"))


def test_models_with_the_same_digits_have_one_line_and_one_matrix(models: Clone, pages: Pages) -> None:
    page = open_comparison(models, pages, "base", "equal", charts=2)
    expect(page.locator("#verdict")).to_have_text("◆ The same digits")
    expect(page.locator(".matrix")).to_have_count(1)
    expect(page.locator(".group")).to_have_count(1)
    expect(page.locator(".arrows")).to_have_count(0)
    # They differ in confidence.
    expect(page.get_by_role("row", name=re.compile("^test loss"))).to_contain_text("↑ +")


def test_runs_that_record_the_same_have_nothing_else(models: Clone, pages: Pages) -> None:
    models.run("git", "checkout", "--quiet", "--detach", "base")
    models.run("git", "commit", "--quiet", "--allow-empty", "--message", "The same")
    page = open_comparison(models, pages, "base", charts=0)
    sections = page.locator("main section").evaluate_all("sections => sections.map(section => section.id)")
    assert sections == ["result", "digits", "where"]
    expect(page.locator("#summary")).to_have_text("Parameters, data, code and environment are the same.")
    expect(page.locator(".matrix")).to_have_count(1)
    assert layout_faults(page) == []
    models.run("git", "checkout", "--quiet", "main")


def test_only_what_was_tested_is_judged(models: Clone) -> None:
    before, after = (load(resolve(name, models.folder)) for name in ("base", "better"))
    after = replace(after, report=after.report.model_copy(update={"validation": Part(accuracy=1.0, loss=0.0)}))
    rows = {row.name: row for row in headlines(compare_runs(before, after))}
    assert {name for name, row in rows.items() if row.judgement} == {"test accuracy", "test errors"}
    assert rows["test errors"].difference == f"{MINUS}20"
    assert rows["validation loss (nats)"].difference.startswith(f"↓ {MINUS}")
    assert rows["parameters of the network"].difference == "0"


def test_a_value_that_an_older_commit_lacks_is_not_recorded_and_not_judged(models: Clone) -> None:
    before, after = (load(resolve(name, models.folder)) for name in ("base", "better"))
    test = before.report.test.model_copy(update={"calibration_error": None})
    older = replace(before, report=before.report.model_copy(update={"test": test, "model": None}))
    rows = {row.name: row for row in headlines(compare_runs(older, after))}
    assert rows["calibration error"][1] == rows["parameters of the network"][1] == "not recorded"
    assert rows["calibration error"][3:] == rows["parameters of the network"][3:] == ("", "")
    assert rows["test errors"].judgement == "better"


def test_the_matrices_have_the_counts_of_the_predictions(models: Clone, pages: Pages) -> None:
    page = open_comparison(models, pages, "base", "never-a-7")
    counts = {
        name: [
            sum((row["actual"], row["predicted"]) == (str(actual), str(predicted)) for row in rows_of(models, name))
            for actual in range(10) for predicted in range(10)
        ]
        for name in ("base", "never-a-7")
    }  # fmt: skip
    for matrix, expected in zip(("before", "after"), counts.values(), strict=True):
        cells = page.locator(f"#{matrix} td").all_text_contents()
        total = [sum(expected[row * 10 : row * 10 + 10]) for row in range(10)]
        shares = [f"{count}{count / total[place // 10]:.1%}" if count else "0" for place, count in enumerate(expected)]
        assert cells == shares
    differences = [new - old for old, new in zip(*counts.values(), strict=True)]
    assert page.locator("#difference td").all_text_contents() == [signed(count, ",") for count in differences]
    # The colour's strength is the share of the actual digit, whatever the other cells hold.
    depths = page.locator("#difference td").evaluate_all(
        "cells => cells.map(cell => Number(cell.style.getPropertyValue('--depth')))"
    )
    totals = [sum(counts["base"][row * 10 : row * 10 + 10]) for row in range(10)]
    shares = [abs(count) / totals[place // 10] for place, count in enumerate(differences)]
    assert np.allclose(depths, np.cbrt(shares), atol=1e-3)


def moved(clone: Clone, actual: str, predicted: str) -> list[str]:
    """List the images of a digit that one of `base` and `better`, but not the other, takes for a digit."""
    return [
        old["index"]
        for old, new in zip(rows_of(clone, "base"), rows_of(clone, "better"), strict=True)
        if old["actual"] == actual
        and old["predicted"] != new["predicted"]
        and predicted in (old["predicted"], new["predicted"])
    ]


def visible(page: Page) -> list[str]:
    return sorted(index for title in ("Newly broken", "Newly fixed", "Still wrong") for index in shown(page, title))


def test_a_cell_shows_its_digits_and_the_address_keeps_them(models: Clone, pages: Pages) -> None:
    page = open_comparison(models, pages, "base", "better")
    before = rows_of(models, "base")
    wrong = before[20]  # fixed
    actual, predicted = wrong["actual"], wrong["predicted"]
    expected = sorted(row["index"] for row in before if (row["actual"], row["predicted"]) == (actual, predicted))
    cell = f"button[data-actual='{actual}'][data-predicted='{predicted}']"
    page.locator(f"#before {cell}").click()
    assert visible(page) == expected
    expect(page.locator(f"#before {cell}")).to_have_attribute("aria-pressed", "true")
    fixed = [index for index in expected if index in fates(models, "base", "better")["Newly fixed"]]
    expect(page.locator("#fixed h3")).to_have_text(f"Newly fixed: {len(fixed)} of 20")
    expect(page.get_by_role("status")).to_contain_text(f"Newly fixed: {len(fixed)} of 20")
    # The other's page opens with the same digits.
    assert page.url.endswith(f"#actual={actual}&predicted={predicted}&by=before")
    page.goto("about:blank")
    page.go_back()
    assert visible(page) == expected
    # A cell of the difference shows the digits that moved, a group without any is hidden.
    page.locator(f"#difference {cell}").click()
    assert visible(page) == sorted(moved(models, actual, predicted))
    expect(page.locator("#still")).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("Still wrong: 0 of 10")
    # `better` classifies the image correctly.
    page.get_by_label("predicted by").select_option("after")
    assert wrong["index"] not in visible(page)
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.get_by_role("status")).to_be_empty()
    expect(page.locator("#fixed h3")).to_have_text("Newly fixed: 20")


def test_the_keyboard_goes_from_cell_to_cell_and_chooses(models: Clone, pages: Pages) -> None:
    page = open_comparison(models, pages, "base", "worse")
    buttons = page.locator("#difference button")
    # One cell of each matrix is in the order of Tab; the arrow keys reach the others.
    assert page.locator("#difference button[tabindex='0']").count() == 1
    buttons.first.focus()
    places = [buttons.first.evaluate("cell => [cell.dataset.actual, cell.dataset.predicted]")]
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
        places.append(
            page.evaluate("[document.activeElement.dataset.actual, document.activeElement.dataset.predicted]")
        )
    start, right, down, below = [(int(actual), int(predicted)) for actual, predicted in places]
    # The arrows stop where no cell with digits follows.
    assert right[0] == start[0]
    assert right[1] >= start[1]
    assert down[1] == right[1] == below[1]
    assert right[0] <= down[0] <= below[0]
    assert len({start, right, down, below}) > 2
    page.keyboard.press("Enter")
    actual, predicted = places[-1]
    assert page.url.endswith(f"#actual={actual}&predicted={predicted}&by=moved")
    assert visible(page)


@pytest.mark.parametrize("after", ["worse", "equal"])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_page_can_be_read_everywhere(
    color_scheme: Literal["light", "dark"], after: str, models: Clone, pages: Pages
) -> None:
    compare(models, "base", after)
    for width in WIDTHS:
        page = pages.open(models.folder / COMPARISON, width, color_scheme)
        expect(page.locator("svg.marks")).to_have_count(2 if after == "equal" else 3)
        assert layout_faults(page) == []
        assert small_targets(page) == []
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 100
        assert min(contrasts) >= 4.5  # WCAG 2, AA
        page.close()


def test_the_page_is_printed_whole_and_light(models: Clone, pages: Pages) -> None:
    compare(models, "base", "worse")
    page = pages.open(models.folder / COMPARISON, 1280, "dark")
    expect(page.locator("svg.marks")).to_have_count(3)
    page.set_viewport_size({"width": PAPER, "height": 1000})
    page.emulate_media(media="print")
    assert layout_faults(page) == []
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    assert min(page.evaluate(CONTRASTS)) >= 4.5
    # All digits are printed, black on white, and what is only for the screen is not.
    expected = fates(models, "base", "worse")
    assert shown(page, "Newly broken") == expected["Newly broken"][::-1]
    images = page.locator(".digits img")
    assert images.count() == sum(map(len, expected.values()))
    assert images.first.evaluate("image => getComputedStyle(image).filter") == "none"
    for part in ("nav", "#choose", ".more"):
        expect(page.locator(part).first).to_be_hidden()
    lefts = page.locator(".card, figure").evaluate_all("boxes => boxes.map(box => box.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1


# The contrast of every text on a card or the page with its background.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const [r, g, b, alpha = 1] = numbers(getComputedStyle(element).backgroundColor);
    if (alpha === 1) return [r, g, b];
    const below = behind(element.parentElement);
    return [r, g, b].map((c, place) => alpha * c + (1 - alpha) * below[place]);
  };
  const texts = "h1, h2, h3, p, a, th, td, dt, dd, li p, li span, caption, figcaption, summary, button, small";
  return [...document.querySelectorAll(texts)]
    .filter((element) => element.textContent.trim() && element.checkVisibility())
    .map((element) => [numbers(getComputedStyle(element).color).slice(0, 3), behind(element)].map(luminance))
    .map(([one, other]) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
}"""


def make_report(clone: Clone, *revision: str, exit_code: int = 0) -> str:
    return clone.run("python", "-m", "tools.pages.report", *revision, exit_code=exit_code)


def test_the_report_shows_one_run(models: Clone, pages: Pages) -> None:
    printed = make_report(models, "worse")
    page = pages.open(models.folder / REPORT)
    expect(page.locator("svg.marks")).to_have_count(2)
    recorded = json.loads(models.run("git", "show", f"worse:{METRICS}"))["test"]
    expect(page.locator(".verdict")).to_have_text(f"{recorded['accuracy']:.2%}")
    images, errors = len(rows_of(models, "worse")), recorded["errors"]
    low = beta.ppf(0.025, images - errors, errors + 1)
    high = beta.ppf(0.975, images - errors + 1, errors)
    sentence = (
        f"“worse”: {recorded['accuracy']:.2%} of {images} test images are classified correctly "
        f"(95% interval {low:.2%} to {high:.2%}); {errors} are misclassified"
    )
    expect(page.locator(".lead")).to_have_text(f"{sentence}.")
    assert printed.startswith(f"{sentence}\n")
    assert (models.folder / REPORT).as_uri() in printed
    assert page.title() == f"“worse” {recorded['accuracy']:.2%}: mnist-lstm"
    wrong = [row["index"] for row in rows_of(models, "worse") if row["actual"] != row["predicted"]]
    show_all(page)
    assert shown(page, "Wrong") == wrong[::-1]
    assert page.locator(".digits img").count() == len(wrong)
    params = flat(yaml.safe_load((models.folder / "params.yaml").read_text()))
    for name, value in params.items():
        expect(page.get_by_role("row", name=f"{name} {value}")).to_be_attached()
    # git ignores the page.
    assert models.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("width", [*WIDTHS, PAPER])
def test_the_report_can_be_read_everywhere(width: int, models: Clone, pages: Pages) -> None:
    make_report(models, "worse")
    page = pages.open(models.folder / REPORT, width)
    expect(page.locator("svg.marks")).to_have_count(2)
    if width == PAPER:
        page.emulate_media(media="print")
    assert layout_faults(page) == []


# The workspace


@pytest.fixture
def uncommitted(models: Clone, tmp_path: Path) -> Clone:
    """A clone at `base` with the run of `better` in its workspace, not committed."""
    clone = Clone(tmp_path / "clone")
    shutil.copytree(models.folder, clone.folder, symlinks=True)
    clone.run("git", "checkout", "--quiet", "base")
    clone.run("git", "checkout", "--quiet", "better", "--", "reports", "dvc.lock")
    clone.run("git", "reset", "--quiet")
    return clone


def test_a_run_that_is_not_committed_is_the_subject(uncommitted: Clone, pages: Pages) -> None:
    right = json.loads((uncommitted.folder / METRICS).read_text())["test"]["accuracy"]
    assert make_report(uncommitted).startswith(f"“workspace (not committed)”: {right:.2%} of 359 test images")
    page = pages.open(uncommitted.folder / REPORT)
    head = uncommitted.run("git", "rev-parse", "HEAD").strip()
    expect(page.locator("header p").first).to_contain_text(f"not committed, on top of {head[:10]} “base”, ")
    assert page.locator(".digits img").count() == 10
    for named in ([], ["HEAD"], ["workspace"], ["workspace", "HEAD"], ["HEAD", "workspace"]):
        assert compare(uncommitted, *named).startswith(
            "“workspace (not committed)” is better than “HEAD” on 359 test images: 20 fixed, 0 broken"
        )
    assert make_report(uncommitted, "HEAD").startswith("“HEAD”: 91.64% of 359 test images")
    uncommitted.run("git", "add", "--all")
    uncommitted.run("git", "commit", "--quiet", "--message", "Better")
    assert make_report(uncommitted).startswith("“HEAD”: 97.21% of 359 test images")
    error = error_of(compare(uncommitted, exit_code=1))
    assert (
        error
        == "error: HEAD is the commit of the current run: nothing to compare; name another: `make compare REV=main`"
    )


def test_the_older_run_comes_first_whatever_the_order_of_words(models: Clone) -> None:
    for names in (("base", "better"), ("better", "base")):
        assert compare(models, *names).startswith("“better” is better than “base”")
    models.run("git", "checkout", "--quiet", "-b", "aside", "first")
    late = "2040-01-01T00:00:00"
    models.run(
        "git", "commit", "--quiet", "--allow-empty", "--message", "Later", GIT_COMMITTER_DATE=late, GIT_AUTHOR_DATE=late
    )
    for names in (("aside", "better"), ("better", "aside")):
        assert compare(models, *names).startswith("“aside” is ")
    models.run("git", "checkout", "--quiet", "main")
    models.run("git", "branch", "--quiet", "-D", "aside")


def test_the_page_of_two_commits_stays_beside_the_latest(models: Clone, uncommitted: Clone) -> None:
    base = models.run("git", "rev-parse", "base")[:10]
    for after in ("better", "worse"):
        compare(models, after, "base")
        name = f"compare-{base}-{models.run('git', 'rev-parse', after)[:10]}.html"
        assert (models.folder / "reports" / name).read_bytes() == (models.folder / COMPARISON).read_bytes()
    assert models.run("git", "status", "--porcelain") == ""
    before = sorted(uncommitted.folder.glob("reports/*.html"))
    compare(uncommitted, "workspace", "better")
    assert set(uncommitted.folder.glob("reports/*.html")) <= {*before, uncommitted.folder / COMPARISON}


def test_a_run_under_way_is_no_subject(uncommitted: Clone) -> None:
    with (uncommitted.folder / history.PATH).open("a") as file:
        file.write("3,0.9,0.1,0.9,0.1,0\n")
    error = error_of(make_report(uncommitted, exit_code=1))
    assert error.startswith(
        "error: reports/history.csv in the workspace: not the file that dvc.lock names: a run is under"
    )
    assert "`dvc repro`" in error
    assert "REV=HEAD names the committed run" in error
    (uncommitted.folder / PREDICTIONS).unlink()
    assert error_of(make_report(uncommitted, exit_code=1)).startswith(
        "error: reports/predictions.csv in the workspace: not there, though dvc.lock names it there; run `dvc repro`"
    )


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
        assert re.search(rf"{path} at \w+: neither in the cache nor in the storage; .*dvc push` in", printed)
        expect(page.locator(".notice", has_text=path).first).to_contain_text("dvc push")
    expect(page.locator("svg.marks")).to_have_count(3)
    # What is missing comes after the verdict, with a way out that needs nobody else.
    assert page.locator("#result > *").first.locator("#verdict").count() == 1
    expect(page.locator(".notice").first).to_contain_text("make repro` makes it here")
    assert page.locator(".digits img").count() == 0
    assert sorted(shown(page, "Still wrong")) == sorted(fates(models, "base", "better")["Still wrong"])


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        (["nothing"], "nothing: no commit, branch, tag or experiment here"),
        (["base", "base"], "base and base are the same commit: nothing to compare"),
        (["base", "better", "worse"], "expected one or two revisions, found 3: base better worse"),
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
    told = (
        "“base” and “HEAD” were tested on other images: digits (359 images), but not the same images; to compare them"
    )
    assert printed.startswith(told)
    page = pages.open(clone.folder / COMPARISON)
    # Each run has its own charts, in its own colour.
    expect(page.locator("svg.marks")).to_have_count(4)
    colours = [
        page.locator(f"#{chart} .mark-line path").first.get_attribute("stroke") for chart in ("accuracy", "accuracy1")
    ]
    assert colours == ["#2b7bba", "#d55e00"]
    expect(page.locator("#verdict")).to_have_text("◇ Not comparable")
    expect(page.get_by_role("row", name=re.compile("^test errors"))).to_contain_text(re.compile(r"30\s*10$"))
    expect(page.get_by_role("columnheader", name="difference")).to_have_count(0)
    expect(page.get_by_role("heading", name="Which digits?")).to_have_count(0)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert layout_faults(page) == []
    written = html.unescape(compare(clone, "base", "--markdown"))
    assert written.startswith(f"### ◇ Not comparable: “base” to “HEAD”\n\n{told}")


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
    "a body br b button caption code details div figcaption figure footer form h1 h2 h3 head header html img label li "
    "main meta nav option p script section select small span style summary table tbody td th thead title tr ul"
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
    expect(page.locator("svg.marks")).to_have_count(3)
    assert set(page.locator("img").evaluate_all("images => images.map(image => image.src.slice(0, 15))")) == {
        "data:image/png;"
    }
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
    assert html.unescape(written).startswith("### ▲ Better: “base” to “better”\n")
    assert "20 fixed, 0 broken" in html.unescape(written)
    recorded = {name: json.loads(models.run("git", "show", f"{name}:{METRICS}"))["test"] for name in ("base", "better")}
    assert (
        f"| test errors | {recorded['base']['errors']} | {recorded['better']['errors']} | {MINUS}20 better |"
        in html.unescape(written)
    )
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
    assert written.startswith("### ◆ The same digits: “better” to “HEAD”\n\n“better” and “HEAD” predict the same")
    assert "0 fixed, 0 broken" in written
    assert "The same in both: parameters, data, code" in written
    assert [line for line in written.splitlines() if line.startswith("**")] == ["**Environment**"]
    assert "| models/environment.json | not known | not known |" in written
    assert "![" not in written
    assert re.search(
        r"Missing: models/environment.json at \w+: neither in the cache nor in the storage; .*dvc push` in", written
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
