"""The page of a sweep, in a real browser."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.pages.browser import WIDTHS, Pages, layout_faults, small_targets
from tools.sweep.record import Key, Outcome
from tools.sweep.specification import Choice, LogUniform, Sweep

pytest.importorskip("ray")  # `make test-sweep` installs it

HOSTILE = "x</script><i>&`a`<img/src=x/onerror=alert(1)>"
SWEEP = Sweep.model_validate(
    {
        "change": {
            "train.learning_rate": LogUniform(log_uniform=[1e-4, 1e-2]),
            "model.lstm_units": Choice(choice=[[16], [32, 32]]),
            "train.epochs": 4,
        },
        "search": "random", "trials": 12, "metric": "validation_accuracy", "direction": "maximize",
    }
)  # fmt: skip


def outcome(number: int) -> Outcome:
    epochs = {3: 2, 4: 1, 5: 0}.get(number, 4)
    rows = [
        {
            "epoch": epoch, "training_accuracy": 0.9, "training_loss": 0.3, "validation_loss": 0.2,
            "validation_accuracy": 0.9 + 0.005 * number + 0.001 * epoch, "learning_rate": 0.001,
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    return Outcome.model_validate(
        {
            "ended": {4: "finished", 0: "failed"}.get(epochs, "stopped"),
            "changes": {
                "train.learning_rate": 1e-4 * 1.4**number,
                "model.lstm_units": [[16], [32, 32]][number % 2],
                "train.epochs": 4,
            },
            "history": rows,
            "reason": "" if epochs else HOSTILE,
            "spans": [(0.0, 10.0 * epochs)],
        }
    )


OUTCOMES: dict[Key, Outcome] = {(number, 0): outcome(number) for number in range(12)}


@pytest.fixture
def opened(tmp_path: Path, pages: Pages) -> Callable[..., Page]:
    from tools.sweep.page import page  # noqa: PLC0415 - it needs Optuna

    path = tmp_path / "rate.html"
    path.write_text(page("rate", SWEEP, "a" * 40, OUTCOMES), encoding="utf-8")

    def opened(width: int = 1366, **settings: Any) -> Page:
        page = pages.open(path, width, **settings)
        expect(page.locator("svg.marks")).to_have_count(2)
        return page

    return opened


def names(page: Page) -> list[str]:
    return page.locator("#table tbody th span[title]").evaluate_all("names => names.map(name => name.title)")


def test_the_best_trial_and_the_command_that_takes_it_come_first(opened: Callable[..., Page]) -> None:
    page = opened()
    assert page.title() == "Sweep “rate”, 12 trials: mnist-lstm"
    told = page.locator("header p").all_text_contents()
    assert told[0] == "12 trials at commit aaaaaaaaaa: 9 finished, 2 stopped early, 1 failed."
    assert told[1] == (
        "The best by validation accuracy on validation images: “rate-11” with 95.900%. To take it: "
        "dvc exp apply rate-11-s0"
    )
    assert names(page)[:2] == ["rate-11-s0", "rate-10-s0"]
    page.get_by_role("button", name="learning_rate").click()
    page.get_by_role("button", name="learning_rate").click()
    assert names(page)[:2] == ["rate-0-s0", "rate-1-s0"]


def test_a_click_on_a_trial_leads_to_its_command(opened: Callable[..., Page]) -> None:
    page = opened()
    plots = page.locator("#plots svg")
    expect(plots).to_have_count(3)  # all curves, and each parameter that differs
    expect(page.locator("#plots svg").first.locator("path")).to_have_count(10)
    expect(page.locator("#plots svg").first.locator("circle")).to_have_count(1)  # one epoch
    expect(plots.nth(1).locator("circle")).to_have_count(11)
    plots.nth(1).locator("circle").nth(2).click()
    expect(page.locator("#take-command")).to_have_text("dvc exp apply rate-2-s0")
    page.get_by_role("button", name="Choose none").click()
    page.get_by_role("checkbox", name="rate-3-s0").check()
    command = page.locator("#take-command").text_content() or ""
    assert command.startswith("dvc exp run --set-param=train.learning_rate=")
    assert "'--set-param=model.lstm_units=[32, 32]'" in command
    page.get_by_role("checkbox", name="rate-2-s0").check()
    expect(page.locator("#command")).to_have_text("make compare REV=rate-3-s0 REV2=rate-2-s0")


def test_parallel_coordinates_and_importance_are_of_the_varied_parameters(opened: Callable[..., Page]) -> None:
    page = opened()
    axes = page.locator("#parallel text[text-anchor=middle]").all_text_contents()
    assert axes == ["learning_rate", "lstm_units", "validatio…accuracy"]
    expect(page.locator("#parallel path")).to_have_count(11)
    shares = page.locator(".bars dd:last-of-type, .bars dt").all_text_contents()
    assert set(page.locator(".bars dt").all_text_contents()) == {"train.learning_rate", "model.lstm_units"}
    assert shares


def test_a_trial_that_learned_nothing_does_not_lay_the_others_on_one_spot(tmp_path: Path, pages: Pages) -> None:
    from tools.sweep.page import page  # noqa: PLC0415 - it needs Optuna

    rows = [row | {"validation_accuracy": 0.1} for row in OUTCOMES[0, 0].history]
    outcomes = OUTCOMES | {(0, 0): OUTCOMES[0, 0].model_copy(update={"history": rows})}
    path = tmp_path / "rate.html"
    path.write_text(page("rate", SWEEP, "a" * 40, outcomes), encoding="utf-8")
    opened = pages.open(path)
    errors = [1 - each.history[-1]["validation_accuracy"] for each in outcomes.values() if each.history]
    worst = f"≤ {1 - 3 * statistics.median_high(errors):.2%}"
    expect(opened.locator("#plots svg").nth(1).locator(".tick").nth(3)).to_have_text(worst)
    expect(opened.locator("#parallel .tick").nth(-5)).to_have_text(worst)
    (circle,) = opened.locator("#plots svg").nth(1).locator("circle", has_text="rate-0-s0").all()
    assert circle.get_attribute("cy") == opened.locator("#plots svg").nth(1).locator("line").first.get_attribute("y1")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_page_can_be_read_everywhere(color_scheme: str, opened: Callable[..., Page]) -> None:
    for width in WIDTHS:
        page = opened(width, color_scheme=color_scheme)
        page.get_by_role("checkbox", name="rate-3-s0").check()
        page.locator("#chosen").evaluate("bar => { bar.style.position = 'static'; }")  # it lies over the page by design
        assert layout_faults(page) == []
        if width == 390:
            assert small_targets(page) == []
        page.close()


def test_texts_from_elsewhere_are_texts(opened: Callable[..., Page]) -> None:
    page = opened()
    assert page.locator("img").count() == 0
    expect(page.get_by_text(HOSTILE)).to_be_visible()
