"""The pages of `dvc plots show` and `dvc plots diff`, in a real browser."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from stages.errors import InputError
from tests.clones import PIPELINE, Clone
from tests.loopback import serving
from tests.pages.browser import PAPER, WIDTHS, Pages, layout_faults
from tools import ROOT
from tools.pages.charts import chart
from tools.pages.plots_page import DESIGN, HASHES, PACKAGES, PAGE, PLACE, Package, drawing, fetch, page, script, scripts

COMMITTED = PAGE.read_text(encoding="utf-8")
CHARTS = {"accuracy", "loss", "reports_history_csv", "reports_predictions_csv", "reports_confusion_matrix_csv"}
# SHA-256 of each script as it is in its package.
SCRIPTS = {
    "vega": "8f6a3587cf8d4f42c7e08120e3eb05d067e746d554e39d2dcf52acc0bd5ba28f",
    "vega-lite": "83e215e84e308ee8688fa6503ba0f1cf8a3c05c0d61df2841a0b92bf86809e00",
    "vega-embed": "b1455caba2fb1a72fb46025ba0ba1316e2dbc7f0dd40a3f6040172bf9c08ba91",
}

# The committed page


def test_the_committed_page_is_the_design_with_the_pinned_scripts_and_licences() -> None:
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts(COMMITTED)]
    assert len(hashes) == len(PACKAGES) + 2
    # Only these scripts run, because no policy names another.
    design = DESIGN.read_text(encoding="utf-8").replace(HASHES, " ".join(f"'sha256-{hash_}'" for hash_ in hashes))
    assert "unsafe-inline" not in re.findall("script-src [^;]*;", design)[0]
    before, after = design.split(PLACE)
    assert COMMITTED.startswith(before)
    assert COMMITTED.endswith(after)
    vega = COMMITTED.removeprefix(before).removesuffix(after)
    parts = re.findall(r"<script>\n/\*! (\S+) (\S+)\n\n(.*?)\n\*/\n(.*?)</script>", vega, re.DOTALL)
    assert [(name, version) for name, version, _, _ in parts] == [(part.name, part.version) for part in PACKAGES]
    assert vega.count("</script>") == len(PACKAGES)
    for package, (name, _, licence, code) in zip(PACKAGES, parts, strict=True):
        assert "Copyright" in licence
        assert re.search("Redistributions? of source|Permission (to use|is hereby granted)", licence), name
        assert hashlib.sha256(code.encode()).hexdigest() == SCRIPTS.get(package.name, hashlib.sha256().hexdigest())


def test_the_part_that_draws_charts_is_found_in_the_page() -> None:
    part = drawing(COMMITTED)
    assert part in COMMITTED
    assert part.startswith("<style>")
    assert part.endswith("</script>\n")
    assert all(str(package) in part for package in PACKAGES)
    assert "{plot_divs}" not in part


def test_every_chart_has_its_template_and_says_what_it_shows() -> None:
    plots = [next(iter(plot.items())) for stage in PIPELINE["stages"].values() for plot in stage.get("plots", [])]
    plots += [next(iter(plot.items())) for plot in PIPELINE["plots"]]
    for path, properties in plots:
        if not path.endswith(".png"):
            assert (ROOT / f".dvc/plots/{properties['template']}.json").exists()
            assert properties["title"]
            assert properties["x_label"] if properties["template"] == "errors" else properties["x"]
            assert properties["y_label"]


# Making the page from a registry

SCRIPT = "draw();\n"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on loopback with one package."""
    folder = tmp_path / "small/-"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "small-1.0.0.tgz", "w:gz") as files:
        for name, content in {"LICENSE": "Copyright A\n", "build/small.js": SCRIPT}.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            files.addfile(member, io.BytesIO(content.encode()))

    with serving(partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as url:
        yield f"{url}/"


def small(tarball: Path) -> Package:
    return Package(
        "small", "1.0.0", base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode(), "build/small.js"
    )


def test_a_package_becomes_a_script_below_its_licence(registry: str, tmp_path: Path) -> None:
    package = small(tmp_path / "small/-/small-1.0.0.tgz")
    made = script(package, fetch(package, registry))
    assert made == "<script>\n/*! small 1.0.0\n\nCopyright A\n*/\ndraw();\n</script>"
    assert page(f"a{PLACE}b", made) == f"a{made}b"


def test_a_package_with_another_checksum_is_not_used(registry: str, tmp_path: Path) -> None:
    package = small(tmp_path / "small/-/small-1.0.0.tgz")
    with (tmp_path / "small/-/small-1.0.0.tgz").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match=r"small-1\.0\.0\.tgz: expected the SHA-512 .* found .*not used"):
        fetch(package, registry)


def test_a_package_that_cannot_be_downloaded_is_named(registry: str) -> None:
    with pytest.raises(InputError, match=r"big-1\.0\.0\.tgz: cannot be downloaded: 404 .*npm_config_registry"):
        fetch(Package("big", "1.0.0", "", None), registry)


# In the browser


@pytest.fixture(scope="module")
def plots(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The first run, and a commit with the reports of a model that never predicts 7."""
    clone = Clone(tmp_path_factory.mktemp("plots") / "clone")
    shutil.copytree(first_run.folder, clone.folder, symlinks=True)
    path = clone.folder / "reports/confusion_matrix.csv"
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    rows[1:] = [[*row[:8], "0", str(int(row[9]) + int(row[8])), row[10]] for row in rows[1:]]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")
    clone.commit("Never a 7")
    return clone


def drawn(page: Page) -> set[str]:
    """Wait until all charts are drawn, and return their ids."""
    expect(page.locator("main svg.marks")).to_have_count(len(CHARTS))
    return set(page.locator("svg.marks").evaluate_all("charts => charts.map(chart => chart.closest('main > div').id)"))


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_chart_and_picture_of_two_commits_is_drawn(
    color_scheme: Literal["light", "dark"], plots: Clone, pages: Pages
) -> None:
    plots.run("dvc", "plots", "diff", "first", "HEAD")
    for width in (*WIDTHS, PAPER):
        page = pages.open(plots.folder / "dvc_plots/index.html", width, color_scheme)
        assert drawn(page) == CHARTS
        if width == PAPER:
            page.emulate_media(media="print")
        # A picture that shows the same as a chart is left out, and a title says what the others show.
        assert page.locator("h1").text_content() == "Plots of “first” and “HEAD”"
        assert page.locator("main img").evaluate_all("images => images.map(image => image.alt)") == [
            "Mistakes of first", "Mistakes of HEAD",
        ]  # fmt: skip
        for picture in page.locator("main img").all():
            assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
        assert page.get_by_text(re.compile(r"\.png|\.csv")).count() == 0
        assert layout_faults(page) == []
        for text in ("Accuracy after each epoch", "mean cross-entropy (nats)", "predicted digit", "training", "HEAD"):
            expect(page.get_by_text(text).first).to_be_attached()
        page.close()


def test_a_picture_is_shown_where_its_chart_is_not(plots: Clone, pages: Pages) -> None:
    plots.run("dvc", "plots", "show", "reports/confusion_matrix.png")
    page = pages.open(plots.folder / "dvc_plots/index.html")
    expect(page.get_by_role("heading", name="Confusion matrix")).to_be_visible()
    expect(page.locator("main img")).to_have_count(1)


HOSTILE = "</script></plaintext></template><img/src=x/onerror=alert(1)><meta/http-equiv=refresh/content=0>"
CELL = "</script><script>alert(2)</script><img src=x onerror=alert(3)>"


def test_names_and_values_with_markup_are_texts(plots: Clone, tmp_path: Path, pages: Pages) -> None:
    clone = plots.copy(tmp_path / "clone")
    clone.run("git", "checkout", "--quiet", "-b", HOSTILE)
    history = clone.folder / "reports/history.csv"
    lines = history.read_text(encoding="utf-8").splitlines()
    history.write_text("\n".join([f"{lines[0]},note", *(f'{line},"{CELL}"' for line in lines[1:])]), encoding="utf-8")
    dvc_yaml = clone.folder / "dvc.yaml"
    dvc_yaml.write_text(
        dvc_yaml.read_text().replace("title: Learning rate at", "title: '</script><script>alert(4)</script>Rate at")
        .replace("the end of each epoch\n", "the end of each epoch'\n"), encoding="utf-8",
    )  # fmt: skip
    clone.commit("Markup")
    clone.run("dvc", "plots", "diff", HOSTILE, "first")
    written = (clone.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert f"<p>{HOSTILE}</p>" in written
    assert CELL in written
    assert "</script><script>alert(4)" in written
    page = pages.open(clone.folder / "dvc_plots/index.html")
    page.on("dialog", lambda dialog: pages.faults.append(f"dialog: {dialog.message}"))
    assert drawn(page) == CHARTS
    expect(page.locator("h1")).to_have_text(f"Plots of “{HOSTILE}” and “first”")
    expect(page.locator("figcaption").first).to_have_text(HOSTILE)
    expect(page.get_by_role("heading", name="</script><script>alert(4)</script>Rate at")).to_be_visible()
    assert page.locator("main img").evaluate_all("images => images.map(image => image.getAttribute('src')[0])") == [
        "s",
        "s",
    ]
    assert page.locator("script").count() == len(PACKAGES) + 2
    assert layout_faults(page) == []


def test_markup_that_reached_the_page_would_not_run(tmp_path: Path, browser: Browser) -> None:
    """The policy is the second wall: it holds even if the text were read as markup."""
    bare = COMMITTED.replace("{refresh_tag}", "").replace("<plaintext hidden>", "<plaintext hidden></plaintext>")
    broken = bare.replace(
        "<main></main>",
        "<main><script>document.title = 'ran'</script><img src=x: onerror=\"document.title = 'ran'\"></main>",
    )
    file = tmp_path / "page.html"
    file.write_text(broken.replace("{plot_divs}", ""), encoding="utf-8")
    page = browser.new_page(offline=True)
    page.goto(file.as_uri())
    page.wait_for_load_state()
    assert page.title() != "ran"


# The axes and names of charts


@pytest.mark.parametrize(
    ("accuracies", "epochs"),
    [([0.64], 1), ([0.999], 1), ([0.9995, 0.9999], 2), ([0.1, 0.5, 0.64], 3), ([0.99, 0.992, 0.9916], 40), ([1.0], 13)],
)
def test_the_axes_have_labels_at_both_ends_and_at_least_three(
    accuracies: list[float], epochs: int, tmp_path: Path, pages: Pages
) -> None:
    values = [accuracies[min(epoch, len(accuracies) - 1)] for epoch in range(epochs)]
    rows: list[dict[str, Any]] = [
        {"rev": f"run {number}", "field": f"{part}_{quantity}", "epoch": epoch + 1,
         "value": value if quantity == "accuracy" else 3 * (1 - value)}
        for number in range(2) for quantity in ("accuracy", "loss") for part in ("training", "validation")
        for epoch, value in enumerate(values)
    ]  # fmt: skip
    page = draw(tmp_path, pages, {
        quantity: chart(quantity, [row for row in rows if row["field"].endswith(quantity)], title=quantity, x="epoch",
                        y="value", x_label="epoch", y_label=quantity)
        for quantity in ("accuracy", "loss")
    })  # fmt: skip
    axes = page.evaluate(AXES)
    assert len(axes) == 4
    for axis in axes:
        assert len(axis["labels"]) >= 3, axis
        assert axis["first"] < 1, axis
        assert axis["last"] < 1, axis
    assert layout_faults(page) == []


# The labels of each axis, and how far the outer ones are from the ends of its line.
AXES = """() => {
  const measure = (axis) => {
    const boxes = [...axis.querySelectorAll(".role-axis-label text")].map((label) => label.getBoundingClientRect());
    const across = Math.abs(boxes[0].bottom - boxes.at(-1).bottom) < 1;
    const line = axis.querySelector(".role-axis-domain").getBoundingClientRect();
    const ends = across ? [line.left, line.right] : [line.top, line.bottom];
    const places = boxes.map(({ left, right, top, bottom }) => (across ? left + right : top + bottom) / 2);
    return {
      labels: [...axis.querySelectorAll(".role-axis-label text")].map((label) => label.textContent),
      first: Math.abs(Math.min(...places) - ends[0]),
      last: Math.abs(Math.max(...places) - ends[1]),
    };
  };
  return [...document.querySelectorAll("svg .role-axis")]
    .filter((axis) => axis.querySelectorAll(".role-axis-label text").length).map(measure);
}"""


def test_seven_revisions_differ_in_colour_and_shape_and_long_names_are_shortened(tmp_path: Path, pages: Pages) -> None:
    names = [f"an-experiment-with-a-very-long-name-and-a-number-at-its-end-{number}" for number in range(7)]
    rows = [
        {"rev": name, "field": f"{part}_loss", "epoch": epoch, "value": 0.1 * (number + 1)}
        for number, name in enumerate(names) for part in ("training", "validation") for epoch in (1, 2, 3)
    ]  # fmt: skip
    page = draw(
        tmp_path, pages, {"loss": chart("loss", rows, title="loss", x="epoch", y="value", x_label="e", y_label="l")}
    )
    symbols = page.locator(".role-legend-symbol path").evaluate_all(
        "symbols => symbols.map(symbol => [symbol.getAttribute('stroke'), symbol.getAttribute('d')])"
    )
    symbols = [symbol for symbol in symbols if symbol[0].startswith("#") and symbol[1] != "M-10,0L10,0"]
    assert len({colour for colour, _ in symbols}) == len({shape for _, shape in symbols}) == 7
    labels = page.locator(".role-legend-label text")
    shown = labels.evaluate_all(
        "labels => labels.map(label => [label.firstChild.textContent, label.querySelector('title')?.textContent])"
    )
    assert [[f"an-experiment-…-at-its-end-{number}", name] for number, name in enumerate(names)] == [
        label for label in shown if label[1]
    ]


def draw(tmp_path: Path, pages: Pages, charts: dict[str, Any]) -> Page:
    """Draw charts as the pages do."""
    file = tmp_path / "charts.html"
    boxes = "".join(f'<figure><div id="{name}"></div></figure>' for name in charts)
    calls = "".join(f'vegaEmbed("#{name}", {json.dumps(made)});' for name, made in charts.items())
    style = "<style>:root { --line: #ccc; --card: #fff } figure { margin: 20px }</style>"
    file.write_text(
        f"<!DOCTYPE html><meta charset='utf-8'>{style}{drawing(COMMITTED)}<body>{boxes}<script>{calls}</script>",
        encoding="utf-8",
    )
    page = pages.open(file, 700)
    expect(page.locator("svg.marks")).to_have_count(len(charts))
    return page


def test_the_matrix_has_every_class_with_counts_and_rates(plots: Clone, pages: Pages) -> None:
    plots.run("dvc", "plots", "show")
    page = pages.open(plots.folder / "dvc_plots/index.html")
    assert drawn(page) == CHARTS
    texts = page.locator("#reports_confusion_matrix_csv svg.marks text").all_text_contents()
    with (plots.folder / "reports/confusion_matrix.csv").open(encoding="utf-8") as file:
        rows = [[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    expected = [cell for row in rows for cell in row]
    assert all(row[7] == 0 for row in rows)
    shares = [f"{cell / sum(row):.1%}" for row in rows for cell in row if cell]
    assert sorted(text for text in texts if "%" in text) == sorted(shares)
    for digit in range(10):
        # As a label of both axes, and as a count.
        assert texts.count(str(digit)) == 2 + expected.count(digit)


def test_training_and_validation_differ_without_colour(plots: Clone, pages: Pages) -> None:
    plots.run("dvc", "plots", "show", "accuracy")
    page = pages.open(plots.folder / "dvc_plots/index.html")
    expect(page.locator("svg.marks")).to_have_count(1)
    dashes = page.locator(".mark-line path").evaluate_all(
        "lines => lines.map(line => line.getAttribute('stroke-dasharray'))"
    )
    assert sorted(map(str, dashes)) == ["1,0", "5,4"]
