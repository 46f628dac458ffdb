"""What is kept of a sweep, and its table."""

import statistics
from pathlib import Path
from typing import Any

from tools.sweep import record
from tools.sweep.record import Key, Outcome
from tools.sweep.specification import Grid, Sweep
from tools.sweep.table import candidates, duration, elapsed, markdown

SWEEP = Sweep.model_validate(
    {
        "change": {"train.decay": Grid(grid=[0.1, 0.2, 0.3, 0.4])},
        "search": "grid", "seeds": 2, "metric": "validation_accuracy", "direction": "maximize",
    }
)  # fmt: skip


def outcome(number: int, *accuracies: float, ended: str = "finished", **others: Any) -> Outcome:
    rows = [
        {"epoch": at + 1, "validation_accuracy": value, "validation_loss": 1 - value}
        for at, value in enumerate(accuracies)
    ]
    return Outcome.model_validate(
        {
            "ended": ended,
            "changes": {"train.decay": (number + 1) / 10},
            "history": rows,
            "spans": [(900.0 * number, 900.0 * number + 1800.0)],
            **others,
        }
    )


OUTCOMES: dict[Key, Outcome] = {
    (0, 0): outcome(0, 0.5, 0.8),
    (0, 1): outcome(0, 0.5, 0.9),
    (1, 0): outcome(1, 0.5, 0.9),
    (1, 1): outcome(1, 0.5, 0.88),
    (2, 0): outcome(2, 0.99, ended="stopped"),
    (2, 1): outcome(2, 0.99, 0.99),
    (3, 0): outcome(3, ended="failed", reason="training diverged in epoch 1"),
    (3, 1): outcome(3, ended="", spans=[]),
}


def test_only_candidates_that_finished_with_every_seed_can_be_chosen() -> None:
    ordered = candidates(SWEEP, OUTCOMES)
    assert [(candidate.number, candidate.is_whole) for candidate in ordered] == [
        (1, True),
        (0, True),
        (2, False),
        (3, False),
    ]
    assert [candidate.state for candidate in ordered] == [
        "",
        "",
        "stopped early after epoch 1",
        "failed: training diverged in epoch 1; 1 not run",
    ]


def test_the_lowest_loss_is_the_best() -> None:
    by_loss = SWEEP.model_copy(update={"metric": "validation_loss", "direction": "minimize"})
    assert [candidate.number for candidate in candidates(by_loss, OUTCOMES)] == [1, 0, 2, 3]


def test_the_table_has_the_spread_over_seeds_and_the_command_that_takes_the_best() -> None:
    lines = markdown("rate", SWEEP, "a" * 40, OUTCOMES).splitlines()
    assert lines[0] == "# Sweep rate"
    assert lines[2] == (
        "8 trials at commit aaaaaaaaaa: 5 finished, 1 stopped early, 1 failed, 1 not run: run the same command again."
    )
    assert lines[3] == (
        "Trials ran for 75 min. Together they took 3.5 h and 3.50 reserved CPU hours, without the 1 that this clone "
        "did not run to an end."
    )
    cells = [cell.strip() for cell in lines[7].split("|")]
    deviation = statistics.stdev([0.9, 0.88])
    margin = 12.706204736432095 * deviation / 2**0.5  # Student's, one degree of freedom
    assert cells[1:7] == [
        "rate-1", "0.2", "2", "89.000%", f"{deviation:.3%}", f"{0.89 - margin:.3%} to {0.89 + margin:.3%}",
    ]  # fmt: skip
    assert lines[-1] == "`dvc exp apply rate-1-s0` takes the best."
    assert any(line.startswith("Chosen on validation images: the highest mean validation accuracy.") for line in lines)


def test_nothing_is_chosen_if_no_candidate_finished() -> None:
    text = markdown("rate", SWEEP, "a" * 40, {(3, 0): OUTCOMES[3, 0]})
    assert "dvc exp apply" not in text


def test_a_record_is_read_as_it_was_saved_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rate.json"
    record.save(OUTCOMES, path)
    assert record.load(path) == OUTCOMES
    for damaged in ("", "{", "[]", '{"0-s0": {}}', '{"x": {"changes": {}}}'):
        path.write_text(damaged)
        assert record.load(path) == {}
    assert record.load(tmp_path / "none.json") == {}


def test_the_time_between_two_calls_of_a_sweep_does_not_count() -> None:
    runs = [[(0.0, 10.0), (100.0, 105.0)], [(4.0, 12.0)], [(5.0, 6.0)], []]
    assert elapsed(outcome(0, spans=spans) for spans in runs) == 17.0


def test_durations_are_given_in_the_unit_that_fits() -> None:
    assert [duration(seconds) for seconds in (5, 89, 150, 5000, 7200)] == ["5 s", "89 s", "2 min", "83 min", "2.0 h"]
