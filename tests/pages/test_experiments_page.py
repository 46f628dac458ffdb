"""`make experiments`: the page about all runs, in a real browser."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from scipy.stats import beta

from tests.clones import Clone
from tests.experiments import add_all
from tests.pages.browser import PAPER, WIDTHS, Pages, layout_faults, small_targets
from tools.pages.experiments import EXPERIMENTS, interval, page
from tools.runs.experiments import load_all

HOSTILE = "x</script><i>&`a`<img/src=x/onerror=alert(1)>"
RUNS: dict[str, tuple[float, dict[str, Any]]] = {
    "three": (0.80, {"epochs": 3}),
    "muon-0": (0.90, {"optimizer": "muon", "seed": 0}),
    "muon-1": (0.92, {"optimizer": "muon", "seed": 1}),
    "muon-2": (0.94, {"optimizer": "muon", "seed": 2}),
    "an-experiment-with-a-very-long-name-about-the-learning-rate": (0.70, {"learning_rate": 0.02, "epochs": 1}),
    HOSTILE: (0.30, {"optimizer": HOSTILE}),
}


@pytest.fixture(scope="module")
def table(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository with a version and six experiments, and their page."""
    clone = first_run.copy(tmp_path_factory.mktemp("table") / "clone")
    clone.run("git", "tag", "--annotate", "--message=v", "lstm@v1.0.0")
    add_all(clone, RUNS)
    printed = clone.run("python", "-m", "tools.pages.experiments")
    assert re.fullmatch(rf"8 runs: {(clone.folder / EXPERIMENTS).as_uri()} \(\d\.\d MB\)\n", printed)
    # git ignores the page.
    assert clone.run("git", "status", "--porcelain") == ""
    return clone


@pytest.fixture
def opened(table: Clone, pages: Pages) -> Callable[..., Page]:
    def opened(width: int = 1366, **settings: Any) -> Page:
        page = pages.open(table.folder / EXPERIMENTS, width, **settings)
        page.on("dialog", lambda dialog: pages.faults.append(f"dialog: {dialog.message}"))
        expect(page.locator("svg.marks")).to_have_count(2)
        return page

    return opened


def names(page: Page) -> list[str]:
    return page.locator("#table tbody th span[title]").evaluate_all("names => names.map(name => name.title)")


def cells(page: Page, name: str) -> Locator:
    return page.locator("#table tbody tr").filter(has=page.locator(f'span[title="{name}"]')).locator("td")


def column(page: Page, name: str) -> int:
    return page.locator("#table thead th button").evaluate_all("heads => heads.map(head => head.title)").index(name) - 1


def test_every_run_has_its_metrics_interval_and_changed_parameters(table: Clone, opened: Callable[..., Page]) -> None:
    page = opened()
    assert names(page) == ["HEAD", "lstm@v1.0.0", *reversed(RUNS)]
    heads = page.locator("#table thead th button").evaluate_all("heads => heads.map(head => head.title)")
    assert heads == [
        "name", "date", "test accuracy", "test errors", "validation accuracy",
        "train.epochs", "train.learning_rate", "train.optimizer", "train.seed",
    ]  # fmt: skip
    entries = {entry.name: entry for entry in load_all(table.folder)[0]}
    for name, entry in entries.items():
        test = entry.report.test
        right = 359 - test.errors
        low, high = beta.ppf(0.025, right, test.errors + 1), beta.ppf(0.975, right + 1, test.errors)
        assert interval(entry) == (round(low, 6), round(high, 6))
        expect(cells(page, name).nth(column(page, "test accuracy"))).to_have_text(
            f"{test.accuracy:.2%} {100 * low:.2f}\N{EN DASH}{100 * high:.2f}"
        )
        expect(cells(page, name).nth(column(page, "train.epochs"))).to_have_text(str(entry.params["train.epochs"]))
    expect(cells(page, "muon-2").first).to_have_text("2027-01-15 11:00")
    assert page.title().startswith("8 runs, the best “muon-2” 93.87%")
    expect(page.locator("header")).to_contain_text("The best on digits (359 images): “muon-2” with 93.87%")


def test_columns_sort_both_ways_and_can_be_chosen(opened: Callable[..., Page]) -> None:
    page = opened()
    head = page.get_by_role("columnheader", name="test accuracy")
    head.get_by_role("button").click()
    assert names(page)[0] == "muon-2"
    expect(head).to_have_attribute("aria-sort", "descending")
    head.get_by_role("button").press("Enter")
    assert names(page)[0] == HOSTILE
    page.get_by_text("Columns").click()
    page.get_by_label("test loss").check()
    page.get_by_label("date").uncheck()
    expect(page.get_by_role("columnheader", name="test loss")).to_be_visible()
    expect(page.get_by_role("columnheader", name="date")).to_have_count(0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("muon", ["muon-2", "muon-1", "muon-0"]),
        ("optimizer=muon accuracy>91%", ["muon-2", "muon-1"]),
        ("train.epochs>=3", ["three"]),
        ("test-accuracy<0.31", [HOSTILE]),
        ("epochs!=2", ["an-experiment-with-a-very-long-name-about-the-learning-rate", "three"]),
        ("nothing-like-this", []),
    ],
)
def test_the_filter_takes_words_and_conditions(text: str, found: list[str], opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_label("Filter").fill(text)
    assert names(page) == found
    expect(page.get_by_role("status")).to_have_text(f"{len(found)} of 8 runs")


def test_the_seeds_of_a_candidate_are_one_row_with_mean_and_deviation(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_label("Group seeds").check()
    page.get_by_label("Filter").fill("muon")
    expect(page.get_by_role("status")).to_have_text("3 of 8 runs, 1 candidates")
    accuracies = [round(359 * share) / 359 for share in (0.90, 0.92, 0.94)]
    mean = sum(accuracies) / 3
    deviation = (sum((each - mean) ** 2 for each in accuracies) / 2) ** 0.5
    row = page.locator("#table tbody tr")
    expect(row).to_have_count(1)
    expect(row.locator("td").nth(column(page, "test accuracy"))).to_have_text(f"{mean:.2%} ± {deviation:.2%}")
    expect(row.locator("td").nth(column(page, "train.seed"))).to_have_text("0, 1, 2")
    page.get_by_role("button", name="3 seeds").click()
    assert names(page) == ["muon-2", "muon-1", "muon-0"]


def test_two_chosen_runs_have_their_command_and_their_curves(table: Clone, opened: Callable[..., Page]) -> None:
    page = opened()
    expect(page.locator("#curves-title")).to_have_text("Curves of the best 5, until you choose others")
    page.get_by_role("checkbox", name="three").check()
    expect(page.get_by_text("Choose two to compare them.")).to_be_visible()
    page.locator("#table tr").filter(has=page.locator(f'span[title="{HOSTILE}"]')).get_by_role("checkbox").check()
    command = page.locator("#command").text_content() or ""
    assert command == f"make compare REV=three REV2='{HOSTILE}'"
    # A shell takes the name as it is.
    assert table.run("sh", "-c", f"{command.replace('make compare', 'env')} printenv REV2") == f"{HOSTILE}\n"
    rows = page.locator("#differences tbody tr").all_text_contents()
    assert rows[0] == "test accuracy79.94%30.08%\N{MINUS SIGN}49.86 points"
    assert f"train.optimizeradam{HOSTILE}" in rows
    expect(page.locator("#accuracy .role-legend-label text").first).to_have_text("three")
    lines = page.locator("#accuracy .mark-line path")
    expect(lines).to_have_count(4)
    page.get_by_role("button", name="Choose none").click()
    expect(page.locator("#chosen")).to_be_hidden()


def test_two_chosen_runs_that_were_compared_have_a_link_to_their_page(
    table: Clone, tmp_path: Path, pages: Pages
) -> None:
    clone = table.copy(tmp_path / "clone")
    commits = {entry.name: entry.about.commit[:10] for entry in load_all(clone.folder)[0]}
    made = clone.folder / f"reports/compare-{commits['muon-1']}-{commits['three']}.html"
    made.write_text("<h1>Better</h1>")
    (clone.folder / "reports/compare-mine.html").write_text("no page of two commits")
    assert clone.run("git", "status", "--porcelain") == ""
    clone.run("python", "-m", "tools.pages.experiments")
    assert "compare-mine" not in (clone.folder / EXPERIMENTS).read_text(encoding="utf-8")

    page = pages.open(clone.folder / EXPERIMENTS)
    link, command = page.get_by_role("link", name="the page"), page.locator("#command")
    page.get_by_role("checkbox", name="muon-1").check()
    expect(link).to_be_hidden()
    page.get_by_role("checkbox", name="muon-2").check()
    expect(command).to_be_visible()
    expect(link).to_be_hidden()
    page.get_by_role("checkbox", name="muon-2").uncheck()
    page.get_by_role("checkbox", name="three").check()
    expect(link).to_be_visible()
    expect(command).to_be_hidden()
    assert (link.bounding_box() or {"height": 0})["height"] >= 44
    link.click()
    expect(page).to_have_url(made.as_uri())


def test_runs_on_other_images_are_kept_apart(table: Clone, tmp_path: Path, pages: Pages) -> None:
    head, *others = load_all(table.folder)[0]
    other = replace(
        head,
        name="other",
        params={**head.params, "prepare.dataset": "mnist"},
        made_of=frozenset({("data/processed/test.npz", "0" * 32)}),
        report=head.report.model_copy(update={"test": head.report.test.model_copy(update={"accuracy": 0.999})}),
    )
    file = tmp_path / "experiments.html"
    file.write_text(page([other, head, *others], []), encoding="utf-8")
    opened = pages.open(file)
    expect(opened.locator("svg.marks")).to_have_count(2)
    assert opened.title().startswith("9 runs, the best “muon-2” 93.87%")
    low, high = interval(head) or (0, 0)
    assert opened.locator("header p").all_text_contents()[1:] == [
        "The best on digits (359 images): “muon-2” with 93.87% (95% interval 90.87% to 96.12%).",
        f"The best on MNIST (359 images): “other” with 99.90% (95% interval {low:.2%} to {high:.2%}).",
    ]
    expect(opened.get_by_role("columnheader", name="test images")).to_be_visible()
    # Neither the best curves nor the coordinates mix them.
    assert "other" not in (opened.locator("#accuracy").text_content() or "")
    expect(opened.locator("#parallel path")).to_have_count(8)
    opened.get_by_role("checkbox", name="other").check()
    opened.get_by_role("checkbox", name="three").check()
    expect(opened.locator("#apart")).to_have_text(
        "They were tested on other images, so their figures do not compare: MNIST (359 images) against digits "
        "(359 images)."
    )
    expect(opened.locator("#differences").get_by_role("columnheader", name="difference")).to_have_count(0)
    opened.locator("#chosen").evaluate("bar => { bar.hidden = true; }")  # it lies over the page by design
    assert layout_faults(opened) == []


def test_parallel_coordinates_keep_the_runs_that_cross_a_brush(opened: Callable[..., Page]) -> None:
    page = opened()
    lines = page.locator("#parallel path")
    expect(lines).to_have_count(8)
    names_of_axes = page.locator("#parallel text[text-anchor=middle]").all_text_contents()
    assert names_of_axes == ["epochs", "learning_rate", "optimizer", "train.seed", "test accuracy"]
    axis = page.locator("#parallel .grab").last
    axis.scroll_into_view_if_needed()
    box = axis.bounding_box()
    assert box
    page.mouse.move(box["x"] + 22, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 22, box["y"] + 60)
    page.mouse.up()
    assert "muon-2" in names(page)
    assert HOSTILE not in names(page)
    expect(lines).to_have_count(len(names(page)))
    page.locator("#parallel .grab").last.click(position={"x": 22, "y": 200})
    expect(lines).to_have_count(8)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_page_can_be_read_everywhere(color_scheme: str, opened: Callable[..., Page]) -> None:
    for width in (*WIDTHS, PAPER):
        page = opened(width, color_scheme=color_scheme)
        page.get_by_role("checkbox", name="three").check()
        page.get_by_role("checkbox", name="muon-1").check()
        if width == PAPER:
            page.emulate_media(media="print")
            page.evaluate("scrollTo(0, 0)")
            expect(page.locator("#controls")).to_be_hidden()
        page.locator("#chosen").evaluate("bar => { bar.style.position = 'static'; }")  # it lies over the page by design
        assert layout_faults(page) == []
        if width == 390:
            assert small_targets(page) == []
        page.close()


def test_names_and_values_are_texts(table: Clone, opened: Callable[..., Page]) -> None:
    text = (table.folder / EXPERIMENTS).read_text(encoding="utf-8")
    assert "<i>&" not in text
    assert "<img/src" not in text
    page = opened()
    assert page.locator("img").count() == 0
    expect(cells(page, HOSTILE).nth(column(page, "train.optimizer"))).to_have_text(HOSTILE)
    assert json.dumps(HOSTILE) not in text
