import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dump_yaml, parse_yaml

from tools import ROOT
from tools.clone.merge_lock import load, merge


def lock(**stages: Any) -> dict[str, Any]:
    return {"schema": "2.0", "stages": stages}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "kept", "left_out"),
    [
        pytest.param(1, 1, 1, 1, False, id="unchanged"),
        pytest.param(1, 2, 1, 2, False, id="ours changed"),
        pytest.param(1, 1, 2, 2, False, id="theirs changed"),
        pytest.param(1, 2, 2, 2, False, id="both changed to the same"),
        pytest.param(1, 2, 3, None, True, id="both changed"),
        pytest.param(None, 1, None, 1, False, id="ours added"),
        pytest.param(None, None, 1, 1, False, id="theirs added"),
        pytest.param(None, 1, 1, 1, False, id="both added the same"),
        pytest.param(None, 1, 2, None, True, id="both added"),
        pytest.param(1, None, 1, None, False, id="ours removed"),
        pytest.param(1, 1, None, None, False, id="theirs removed"),
        pytest.param(1, None, None, None, False, id="both removed"),
        pytest.param(1, None, 2, None, True, id="ours removed what theirs changed"),
        pytest.param(1, 2, None, None, True, id="theirs removed what ours changed"),
    ],
)
def test_a_stage_is_taken_from_the_side_that_changed_it(
    base: int | None, ours: int | None, theirs: int | None, kept: int | None, left_out: bool
) -> None:
    def side(run: int | None) -> dict[str, Any]:
        return lock(other={"cmd": "c"}, **({"train": {"cmd": run}} if run else {}))

    assert merge(side(base), side(ours), side(theirs)) == (side(kept), ["train"] if left_out else [])


def test_stages_keep_their_order() -> None:
    merged, _ = merge(lock(a=1, c=1), lock(a=1, b=2, c=1), lock(a=2, c=1, d=1))
    assert list(merged["stages"].items()) == [("a", 2), ("b", 2), ("c", 1), ("d", 1)]


def test_another_schema_is_left_to_people() -> None:
    with pytest.raises(ValueError, match="schema"):
        merge(lock(), lock(), lock() | {"schema": "3.0"})


def test_the_committed_lock_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Else every merge would change lines that nobody changed."""
    text = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    dump_yaml(tmp_path / "dvc.lock", parse_yaml(text, "dvc.lock"))
    assert (tmp_path / "dvc.lock").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["<<<<<<< ours\n", "stages: [", "[]", "schema: '2.0'\n", "stages: 1\n"])
def test_what_is_no_lock_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(Exception, match=r"dvc\.lock"):
        load(tmp_path / "dvc.lock")


def driver(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.clone.merge_lock", "base", "ours", "theirs"],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_git_gets_the_merge_in_place_of_ours_and_people_get_one_line(tmp_path: Path) -> None:
    for name, stages in (
        ("base", {"a": 1, "b": 1, "c": 1}),
        ("ours", {"a": 2, "b": 1, "c": 2}),
        ("theirs", {"a": 1, "b": 2, "c": 3}),
    ):
        dump_yaml(tmp_path / name, lock(**stages))
    done = driver(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == ("dvc.lock: merged stage by stage, but c changed on both sides; now run `dvc repro --pull`\n")
    assert load(tmp_path / "ours") == lock(a=2, b=2)


def test_two_locks_without_a_common_one_are_merged(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("")
    dump_yaml(tmp_path / "ours", lock(a=1))
    dump_yaml(tmp_path / "theirs", lock(b=1))
    assert driver(tmp_path).returncode == 0
    assert load(tmp_path / "ours") == lock(a=1, b=1)


@pytest.mark.parametrize("theirs", ["stages: [\n", "schema: '3.0'\nstages:\n  a: 3\n"])
def test_a_conflict_in_anything_else_stays_visible(theirs: str, tmp_path: Path) -> None:
    dump_yaml(tmp_path / "base", lock(a=1))
    dump_yaml(tmp_path / "ours", lock(a=2))
    (tmp_path / "theirs").write_text(theirs)
    done = driver(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "dvc.lock: cannot be merged stage by stage; resolve its conflict, then run `dvc repro`\n"
    text = (tmp_path / "ours").read_text()
    assert "<<<<<<< ours" in text
    assert all(line in text.splitlines() for line in theirs.splitlines())
