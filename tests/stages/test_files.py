import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.files import replacing
from tools import ROOT


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def start_writing(path: Path, *command: str) -> subprocess.Popen[str]:
    """Start a process that has written half of a file, and writes the rest once it gets a line."""
    program = f"""
from pathlib import Path
from stages.files import replacing
with replacing(Path({str(path)!r})) as temporary, temporary.open("w") as file:
    file.write("first half, ")
    file.flush()
    print("half", flush=True)
    input()
    file.write("second half")
"""
    process = subprocess.Popen(
        [*command, sys.executable, "-c", program],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "half\n"
    return process


def test_the_file_appears_once_the_block_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path) -> None:
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


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{path}'")), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["table.csv", "folder"])
def test_files_of_a_killed_process_are_removed_by_the_next_write(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    process = start_writing(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = tmp_path.iterdir()
    assert left.match(f".{path.stem}.unfinished-*{path.suffix}")
    others = {tmp_path / other for other in (f".{path.stem}.1{path.suffix}", f".{path.stem}.old{path.suffix}")}
    for other in others:
        other.write_text("of the user")
    write(tmp_path / "other.csv", "whole")
    assert left.exists()
    write(path, "whole")
    assert set(tmp_path.iterdir()) == {path, tmp_path / "other.csv", *others}


# A container numbers its processes from 1 again.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")
HAS_CONTAINERS = shutil.which("unshare") and not subprocess.call([*CONTAINER, "true"], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "command",
    [(), pytest.param(CONTAINER, marks=pytest.mark.skipif(not HAS_CONTAINERS, reason="needs the rights of root"))],
)
def test_two_at_once_each_write_a_whole_file(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    first, second = start_writing(path, *command), start_writing(path, *command)
    write(path, "third")
    assert path.read_text() == "third"
    for process in (first, second):
        process.communicate("\n")
        assert process.returncode == 0
        assert path.read_text() == "first half, second half"
    assert list(tmp_path.iterdir()) == [path]


def test_without_locks_files_of_other_processes_are_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    path = tmp_path / "table.csv"
    process = start_writing(path)
    process.kill()
    process.communicate()
    (left,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", unsupported)
        write(path, "whole")
    assert set(tmp_path.iterdir()) == {path, left}
    write(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_and_folders_have_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    write(tmp_path / "new file", "whole")
    with replacing(tmp_path / "new folder") as temporary:
        temporary.mkdir()
    for kind in ("file", "folder"):
        assert (tmp_path / f"new {kind}").stat().st_mode == (tmp_path / kind).stat().st_mode
