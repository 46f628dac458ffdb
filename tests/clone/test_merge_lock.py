import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dump_yaml, parse_yaml

from tools import ROOT
from tools.clone import merge_lock
from tools.clone.merge_lock import Lock, merge, parse


def lock(**stages: Any) -> Lock:
    texts = {name.encode(): f"  {name}: {run}\n".encode() for name, run in stages.items()}
    return Lock(b"schema: '2.0'\nstages:", texts)


def written(folder: Path, name: str, **stages: Any) -> None:
    """Write a dvc.lock as DVC does."""
    dump_yaml(folder / name, {"schema": "2.0", "stages": stages})


def read(folder: Path, name: str) -> Any:
    return parse_yaml((folder / name).read_text(), name)["stages"]


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
    def side(run: int | None) -> Lock:
        return lock(other="c", **({"train": run} if run else {}))

    assert merge(side(base), side(ours), side(theirs)) == (side(kept), [b"train"] if left_out else [])


def test_stages_keep_their_order() -> None:
    merged, _ = merge(lock(a=1, c=1), lock(a=1, b=2, c=1), lock(a=2, c=1, d=1))
    assert bytes(merged) == b"schema: '2.0'\nstages:\n  a: 2\n  b: 2\n  c: 1\n  d: 1\n"


def test_another_schema_is_left_to_people() -> None:
    with pytest.raises(ValueError, match="schema"):
        merge(lock(), lock(), Lock(b"schema: '3.0'\nstages:", {}))


ODD = {
    "a@0": {"cmd": "first\n\n  second\n", "deps": [{"path": "x" * 200 + " " + "y" * 200, "md5": "0"}]},
    "b": {"cmd": ["one", "two: three #"], "params": {"params.yaml": {"a.b": [1, {"c": "d\ne"}], "empty": {}}}},
    "ü": {"cmd": "ü"},
    "c": {},
}


@pytest.mark.parametrize("stages", [ODD, {}])
def test_what_dvc_writes_is_read_stage_by_stage_and_written_with_the_same_bytes(
    stages: dict[str, Any], tmp_path: Path
) -> None:
    written(tmp_path, "dvc.lock", **stages)
    for text in ((tmp_path / "dvc.lock").read_bytes(), (ROOT / "dvc.lock").read_bytes()):
        found = parse(text)
        assert found
        assert bytes(found) == text
        assert [name.decode() for name in found.stages] == list(parse_yaml(text.decode(), "dvc.lock")["stages"])


@pytest.mark.parametrize(
    "text",
    [
        "<<<<<<< ours\n", "stages: [", "[]", "schema: '2.0'\n", "stages: 1\n", "stages:\n  a: 1", "stages:\n a: 1\n",
        "stages:\n  a: 1\n  a: 2\n", "stages:\n  a: 1\nother: 1\n", "stages:\n  a\n", "stages:\r\n  a: 1\r\n",
        "stages:\n  a:\n<<<<<<< ours\n    cmd: a\n", "stages:\n  a\n  b: 1\n", "stages:\n  - a\n", "\0",
    ],
)  # fmt: skip
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a dvc\.lock"):
        parse(text.encode())


def driver(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).resolve(), "-I", merge_lock.__file__, "base", "ours", "theirs"],
        cwd=folder, env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_git_gets_the_merge_in_place_of_ours_and_people_get_one_line(tmp_path: Path) -> None:
    for name, stages in (
        ("base", {"a": 1, "b": 1, "c": 1}),
        ("ours", {"a": 2, "b": 1, "c": 2}),
        ("theirs", {"a": 1, "b": 2, "c": 3}),
    ):
        written(tmp_path, name, **stages)
    done = driver(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == ("dvc.lock: merged stage by stage, but c changed on both sides; now run `dvc repro --pull`\n")
    assert read(tmp_path, "ours") == {"a": 2, "b": 2}


def test_two_locks_without_a_common_one_are_merged(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("")
    written(tmp_path, "ours", a=1)
    written(tmp_path, "theirs", b=1)
    assert driver(tmp_path).returncode == 0
    assert read(tmp_path, "ours") == {"a": 1, "b": 1}


@pytest.mark.parametrize("theirs", ["stages: [\n", "schema: '3.0'\nstages:\n  a: 3\n"])
def test_a_conflict_in_anything_else_stays_visible(theirs: str, tmp_path: Path) -> None:
    written(tmp_path, "base", a=1)
    written(tmp_path, "ours", a=2)
    (tmp_path / "theirs").write_text(theirs)
    done = driver(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "dvc.lock: cannot be merged stage by stage; resolve its conflict, then run `dvc repro`\n"
    text = (tmp_path / "ours").read_text()
    assert "<<<<<<< ours" in text
    assert all(line in text.splitlines() for line in theirs.splitlines())
