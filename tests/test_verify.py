import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import own
from stages.report import Report
from tests.clones import OUTPUTS, Clone, error_of
from tests.images import save_stroke
from tools import ROOT
from tools.runs.lock import Lock
from tools.verify import OTHER_BITS, OTHER_RESULT, SAME, TOLERANCE, disagreements, first_difference, reasons, table

PARTS = ("train", "validation", "test")
METRICS: dict[str, dict[str, float]] = {part: {"accuracy": 0.99, "loss": 0.03, "errors": 1} for part in PARTS}


def test_the_table_names_every_output() -> None:
    expected = {"models/lstm.keras": "a" * 32, "data/raw": "c" * 32 + ".dir"}
    found = expected | {"models/lstm.keras": "d" * 32}
    assert [line.split() for line in table(expected, found).splitlines()] == [
        ["output", "expected", "found", "verdict"],
        ["models/lstm.keras", "a" * 12, "d" * 12, "DIFFERENT"],
        ["data/raw", "c" * 12, "c" * 12, "same"],
    ]


def test_the_first_stage_with_other_outputs_from_the_same_inputs_is_named() -> None:
    def lock(raw: str, data: str, weights: str, metrics: str) -> Lock:
        def file(path: str, digit: str) -> dict[str, str]:
            return {"path": path, "md5": digit * 32}

        return Lock.model_validate(
            {
                "stages": {
                    "evaluate": {"deps": [file("models/lstm.keras", weights)], "outs": [file("metrics", metrics)]},
                    "prepare": {"deps": [file("raw", raw)], "outs": [file("train.npz", data)]},
                    "train": {"deps": [file("train.npz", data)], "outs": [file("models/lstm.keras", weights)]},
                }
            }
        )

    recorded = lock("0", "1", "2", "3")
    for found, expected in (
        (lock("0", "1", "a", "b"), "stage train made another models/lstm.keras"),
        (lock("0", "a", "b", "c"), "stage prepare made another train.npz"),
        (lock("0", "1", "2", "a"), "stage evaluate made another metrics"),
    ):
        assert first_difference(recorded, found) == f"first difference: {expected} from the same inputs"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", TOLERANCE)
def test_metrics_agree_within_the_tolerance(part: str, name: str) -> None:
    def moved(by: float) -> Report:
        return Report.model_validate(METRICS | {part: METRICS[part] | {name: METRICS[part][name] - by}})

    assert disagreements(moved(0), moved(0.99 * TOLERANCE[name])) == []
    (line,) = disagreements(moved(0), moved(1.01 * TOLERANCE[name]))
    assert line.startswith(f"{part}.{name}: {METRICS[part][name]} recorded")


def test_what_an_older_commit_does_not_record_agrees() -> None:
    found = Report.model_validate(METRICS)
    assert disagreements(found.model_copy(update={"validation": None}), found) == []
    (_, line) = disagreements(found, found.model_copy(update={"validation": None}))
    assert line.startswith("validation.loss: 0.03 recorded, None found")


def test_other_bits_are_put_down_to_what_differs_between_the_machines() -> None:
    there = {"processor": "A", "python": "3.11.7"}
    assert reasons(there, {"processor": "B", "python": "3.11.7"}) == ["processor: A in the recorded run, B here"]
    assert "do not explain" in reasons(there, there)[0]
    missing = "models/environment.json of one run is missing; `dvc push` in a clone that has it shares it"
    assert reasons(None, there) == reasons(there, None) == [f"the reason is not known: {missing}"]


def test_what_a_commit_names_does_not_move_the_cursor() -> None:
    assert reasons({"a\x1b[2J": "b\n"}, {}) == [r"a\x1b[2J: b\n in the recorded run, None here"]
    assert r"a\x1b[2J" in table({"a\x1b[2J": "0" * 32}, {})


@pytest.mark.parametrize(
    "rev", ["--output=x", "-x", "--all", "--git-dir=x", "HEAD^{tree}", "HEAD:README.md", "^HEAD", ""]
)
def test_what_is_no_commit_is_no_option_of_git(rev: str) -> None:
    printed = Clone(ROOT).run("python", "-m", "tools.verify", f"--rev={rev}", exit_code=1)
    assert error_of(printed).startswith((f"error: {rev}: no commit", f"error: {rev}: expected a commit"))


def change_recorded(clone: Clone, **changes: Any) -> None:
    """Commit a dvc.lock, and metrics, as another machine might have made them."""
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        for output in stage["outs"]:
            if output["path"] == "models/lstm.keras":
                output["md5"] = "0" * 32
    (clone.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    metrics = json.loads((clone.folder / "reports/metrics.json").read_text())
    metrics["test"] |= changes
    (clone.folder / "reports/metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    clone.commit("From elsewhere")


@pytest.mark.timeout(900)
def test_a_commit_that_makes_its_run_again_is_verified_and_one_that_does_not_is_not(clone: Clone) -> None:
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text() + "# not committed\n")
    printed = clone.run("python", "-m", "tools.verify", exit_code=SAME)
    assert "what is not committed is left out" in printed
    assert "bits of this run: the same on every x86-64 processor" in printed
    assert f"HEAD: all {len(OUTPUTS)} outputs have the bytes that dvc.lock names" in printed

    clone.run("git", "restore", "params.yaml")
    change_recorded(clone)
    printed = clone.run("python", "-m", "tools.verify", exit_code=OTHER_BITS)
    assert "first difference: stage train made another models/lstm.keras from the same inputs" in printed
    assert "the same result with other bits: 1 outputs differ" in printed

    change_recorded(clone, accuracy=0.5)
    printed = clone.run("python", "-m", "tools.verify", "--rev", "main", exit_code=OTHER_RESULT)
    assert "test.accuracy: 0.5 recorded" in printed

    printed = clone.run("python", "-m", "tools.verify", "--rev", "nothing", exit_code=1)
    assert error_of(printed).startswith("error: nothing: no commit, branch, tag or experiment here")


CLONE_WITH_DATA = """
import sys
from pathlib import Path
from tools.verify import clone_of, get_added
clone_of("HEAD", Path(sys.argv[1]))
get_added("HEAD", Path(sys.argv[1]))
"""


def test_what_no_stage_makes_comes_from_the_cache(clone: Clone, tmp_path: Path) -> None:
    pictures = clone.folder / own.FOLDER / "1"
    pictures.mkdir()
    save_stroke(pictures / "stroke.png")
    (clone.folder / "data/letters.npz").write_bytes(b"letters")  # as docs/make-it-yours.md adds a data set
    clone.run("dvc", "add", str(pictures.relative_to(clone.folder)), "data/letters.npz")
    clone.commit("A picture")
    again = Clone(tmp_path / "again")
    clone.run("python", "-c", CLONE_WITH_DATA, str(again.folder))
    assert (again.folder / own.FOLDER / "1/stroke.png").read_bytes() == (pictures / "stroke.png").read_bytes()
    assert (again.folder / "data/letters.npz").read_bytes() == b"letters"
    again.run("dvc", "repro", "--force", "prepare")
    assert again.run("git", "status", "--short") == " M dvc.lock\n"

    for place in (clone.folder / ".dvc/cache", clone.folder.parent / "mnist-lstm-storage"):
        shutil.rmtree(place, ignore_errors=True)
    printed = clone.run("python", "-c", CLONE_WITH_DATA, str(tmp_path / "lost"), exit_code=1)
    line = error_of(printed)
    assert line.startswith("error: data/letters.npz at HEAD: not readable: ")
    assert line.endswith("; `dvc push` in a clone that has it shares it")
