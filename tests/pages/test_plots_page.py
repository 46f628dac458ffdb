"""The pages of `dvc plots show` and `dvc plots diff`, in a real browser."""

import base64
import csv
import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from stages.errors import InputError
from tests.clones import PIPELINE, Clone
from tests.pages.browser import Pages
from tools import ROOT
from tools.pages.plots_page import DESIGN, PACKAGES, PAGE, PLACE, Package, drawing, fetch, page, script

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
    design = DESIGN.read_text(encoding="utf-8")
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

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


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
@pytest.mark.parametrize("width", [1366, 390])
def test_every_chart_and_picture_of_two_commits_is_drawn(
    color_scheme: Literal["light", "dark"], width: int, plots: Clone, pages: Pages
) -> None:
    plots.run("dvc", "plots", "diff", "first", "HEAD")
    page = pages.open(plots.folder / "dvc_plots/index.html", width, color_scheme)
    assert drawn(page) == CHARTS
    pictures = page.locator("main img").all()
    assert len(pictures) == 2 * 3
    for picture in pictures:
        assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
        assert re.fullmatch(r"reports/\w+\.png of (first|HEAD)", picture.get_attribute("alt") or "")
    # The page itself never scrolls sideways; a wide chart does, within its box.
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for text in ("Accuracy after each epoch", "mean cross-entropy (nats)", "predicted digit", "training", "HEAD"):
        expect(page.get_by_text(text).first).to_be_attached()


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
