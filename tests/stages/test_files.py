import subprocess
from pathlib import Path

import pytest

from stages.files import replacing


def test_the_file_appears_once_the_block_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("earlier")

    def fill_the_disk() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ha")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill_the_disk()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".table.{ended.pid}.csv").write_text("ha")
    (tmp_path / f".folder.{ended.pid}").mkdir()
    of_others = {tmp_path / ".table.1.csv", tmp_path / ".table.old.csv", tmp_path / f".other.{ended.pid}.csv"}
    for other in of_others:
        other.write_text("at work")
    with replacing(tmp_path / "table.csv") as temporary:
        temporary.write_text("whole")
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert set(tmp_path.iterdir()) == {tmp_path / "table.csv", tmp_path / "folder", *of_others}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]
