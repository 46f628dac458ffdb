"""`make collect`: what is taken into data/own, what is refused and why."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from stages import own
from tests.clones import Clone, error_of
from tests.images import save_stroke
from tests.own_pictures import draw_all
from tools import ROOT


@pytest.fixture
def fresh(tmp_path: Path) -> Clone:
    """A repository with data/own and without a pipeline, which DVC opens fast."""
    clone = Clone(tmp_path / "clone")
    (clone.folder / own.FOLDER).mkdir(parents=True)
    shutil.copy(ROOT / own.FOLDER / ".gitignore", clone.folder / own.FOLDER)
    clone.environment["PYTHONPATH"] = str(ROOT)
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    clone.run("dvc", "init", "--quiet")
    clone.commit("Nothing yet")
    return clone


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder as people label one: five digits of both kinds, and a hidden file."""
    folder = tmp_path / "pictures"
    for number, (digit, picture) in enumerate(draw_all(5)):
        path = folder / str(digit) / f"IMG {number}.{'JPG' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True)
        picture.save(path)
    (folder / ".lock").touch()
    return folder


THEN = "now run `dvc repro`, and commit data/own with the result"


def collect(clone: Clone, folder: Path, exit_code: int = 0) -> list[str]:
    printed = clone.run("python", "-m", "tools.collect", str(folder), exit_code=exit_code)
    assert "Traceback" not in printed
    return printed.splitlines()


def content(folder: Path) -> dict[str, set[bytes]]:
    return {
        path.name: {file.read_bytes() for file in path.iterdir()} for path in sorted(folder.iterdir()) if path.is_dir()
    }


def test_pictures_are_copied_unchanged_named_by_content_and_tracked(fresh: Clone, pictures: Path) -> None:
    taken, of_digits, of_parts, then = collect(fresh, pictures)
    assert taken == "5 taken, 0 already there, 0 refused"
    assert of_digits == "taken: 1 of 0, 1 of 1, 1 of 2, 1 of 3, 1 of 4"
    counts = re.fullmatch(r"for training (\d), validation (\d), test (\d)", of_parts)
    assert counts is not None
    assert sum(map(int, counts.groups())) == 5
    assert then == THEN
    here = fresh.folder / own.FOLDER
    assert content(here) == content(pictures)
    (made,) = (here / "3").iterdir()
    assert made.suffix == ".jpg"
    (out,) = yaml.safe_load((here / "3.dvc").read_text())["outs"]
    assert (out["path"], out["nfiles"]) == ("3", 1)
    changed = fresh.run("git", "status", "--short", "--untracked-files=all").splitlines()
    assert changed == [f"?? data/own/{digit}.dvc" for digit in range(5)]
    assert not list((fresh.folder / ".dvc/tmp").glob("collect-*"))

    assert collect(fresh, pictures) == ["0 taken, 5 already there, 0 refused"]
    assert fresh.run("git", "status", "--short", "--untracked-files=all").splitlines() == changed


def test_what_the_server_collected_is_taken(fresh: Clone, tmp_path: Path) -> None:
    save_stroke(tmp_path / "stroke.png")
    folder = tmp_path / "collected"
    fresh.run(
        "python", "-c",
        "import sys\nfrom pathlib import Path\nfrom stages.pictures import load\n"
        "from tools.serve.collect import Collection\n"
        "Collection(Path(sys.argv[1])).save(load(Path(sys.argv[2])), 1)",
        str(folder), str(tmp_path / "stroke.png"),
    )  # fmt: skip
    assert collect(fresh, folder)[:2] == ["1 taken, 0 already there, 0 refused", "taken: 1 of 1"]


def bomb(path: Path) -> None:
    Image.new("1", (9_000, 9_000), 1).save(path)


NO_FILE = "expected a file, found a folder, link, pipe or device"


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, 50_000_001)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "blank.png": (lambda path: Image.new("L", (90, 90), 255).save(path), "blank: expected a digit that stands out"),
    "bomb.png": (bomb, "expected at most 50,000,000 pixels, found 9,000 x 9,000; make the picture smaller"),
    "cut.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "no readable PNG or JPEG"),
    "folder": (Path.mkdir, NO_FILE),
    "large.png": (large, "expected at most 50,000,000 bytes, found more"),
    "link.png": (
        lambda path: path.symlink_to("/etc/hostname"),
        "expected a file, found a folder, link, pipe or device",
    ),
    "new\nline.png": (lambda path: path.write_text("text"), "no readable PNG or JPEG"),
    "pipe.png": (os.mkfifo, NO_FILE),
    "two.png": (lambda path: two_digits().save(path), "expected one digit, found 2 separate shapes of about its size"),
}


def two_digits() -> Image.Image:
    image = Image.new("L", (200, 100), 255)
    for left in (30, 150):
        image.paste(0, (left, 20, left + 20, 80))
    return image


def test_each_refused_file_is_named_with_the_reason(fresh: Clone, pictures: Path) -> None:
    for name, (make, _) in HOSTILE.items():
        (pictures / "7").mkdir(exist_ok=True)
        make(pictures / "7" / name)
    (pictures / "8").symlink_to(pictures / "3")
    (pictures / "ten").mkdir()
    (pictures / "notes.txt").touch()
    printed = collect(fresh, pictures)
    refused = dict(line.removeprefix("refused ").split(": ", 1) for line in printed if line.startswith("refused "))
    assert refused.keys() == {
        str(pictures / name) for name in ("8", "ten", "notes.txt", *(f"7/{name}" for name in HOSTILE))
    } - {f"{pictures}/7/new\nline.png"} | {f"{pictures}/7/new\\nline.png"}
    for name, (_, reason) in HOSTILE.items():
        assert refused[f"{pictures}/7/{name}".replace("\n", "\\n")].startswith(reason)
    for name in ("8", "ten", "notes.txt"):
        assert refused[f"{pictures}/{name}"] == "expected a folder named 0 to 9"
    assert f"5 taken, 0 already there, {len(refused)} refused" in printed


def test_the_same_picture_under_two_digits_is_refused(fresh: Clone, pictures: Path) -> None:
    shutil.copy(pictures / "3" / "IMG 3.JPG", pictures / "4" / "again.jpg")
    shutil.copy(pictures / "2" / "IMG 2.png", pictures / "2" / "again.png")
    *refused, counted, _, _, _ = collect(fresh, pictures)
    three, four = f"{pictures}/3/IMG 3.JPG", f"{pictures}/4/again.jpg"
    assert refused == [
        f"refused {three}: the same picture as {four}, under another digit",
        f"refused {four}: the same picture as {three}, under another digit",
    ]
    assert counted == "4 taken, 1 already there, 2 refused"
    (there,) = (fresh.folder / own.FOLDER / "2").iterdir()
    shutil.rmtree(pictures / "3")
    (pictures / "4" / "again.jpg").unlink()
    (pictures / "2" / "IMG 2.png").unlink()
    (pictures / "2" / "again.png").rename(pictures / "1" / "other.png")
    assert collect(fresh, pictures)[:2] == [
        f"refused {pictures}/1/other.png: the same picture as {there.relative_to(fresh.folder)}; "
        "move that file to change its digit",
        "0 taken, 3 already there, 1 refused",
    ]


def test_a_file_that_was_edited_in_data_own_is_not_overwritten(fresh: Clone, pictures: Path) -> None:
    shutil.rmtree(pictures / "3")
    shutil.rmtree(pictures / "4")
    collect(fresh, pictures)
    (there,) = (fresh.folder / own.FOLDER / "2").iterdir()
    there.unlink()
    save_stroke(there)
    edited = there.read_bytes()
    assert collect(fresh, pictures) == [
        f"refused {pictures}/2/IMG 2.png: {there.relative_to(fresh.folder)} has its name and other content; give that "
        "file another name",
        "0 taken, 2 already there, 1 refused",
    ]
    assert there.read_bytes() == edited
    there.rename(there.with_name("edited.png"))
    assert collect(fresh, pictures)[0] == "1 taken, 2 already there, 0 refused"


def test_after_an_interruption_the_same_command_goes_on(fresh: Clone, pictures: Path) -> None:
    shutil.move(pictures / "3", pictures.with_name("later"))
    collect(fresh, pictures)
    # What a run leaves that ends after it has copied the pictures: a new folder, and one that DVC tracks without them.
    here = fresh.folder / own.FOLDER
    shutil.copytree(pictures.with_name("later"), here / "3")
    save_stroke(here / "1" / "new.png")
    (here / "9").mkdir()
    (here / "9" / "by hand.png").write_bytes(b"not looked at yet")
    shutil.move(pictures.with_name("later"), pictures / "3")
    save_stroke(pictures / "1" / "stroke.png")
    assert collect(fresh, pictures) == ["0 taken, 6 already there, 0 refused", THEN]
    tracked = {digit: yaml.safe_load((here / f"{digit}.dvc").read_text())["outs"][0]["nfiles"] for digit in range(5)}
    assert tracked == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1}
    assert not (here / "9.dvc").exists(), "only folders with collected pictures are added"
    assert fresh.run("dvc", "status").strip() == "Data and pipelines are up to date."


def test_while_dvc_is_busy_it_says_so_and_can_be_run_again(fresh: Clone, pictures: Path) -> None:
    lock = fresh.folder / ".dvc/tmp/lock"
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        line = error_of("\n".join(collect(fresh, pictures, exit_code=1)))
        assert line.startswith(f"error: {fresh.folder}: DVC is busy: Unable to acquire lock. Most likely another DVC ")
        assert line.endswith("; then run the same command again")
    assert collect(fresh, pictures) == ["0 taken, 5 already there, 0 refused", THEN]
    assert fresh.run("dvc", "status").strip() == "Data and pipelines are up to date."


def test_where_nothing_can_be_taken_the_exit_code_is_1(fresh: Clone, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    assert error_of("\n".join(collect(fresh, empty, exit_code=1))) == (
        f"error: {empty}: expected a folder with folders named 0 to 9, found none"
    )
    empty.mkdir()
    assert collect(fresh, empty, exit_code=1) == ["0 taken, 0 already there, 0 refused"]
    (empty / "1").mkdir()
    for name in ("one.png", "same.png"):
        Image.new("L", (90, 90), 255).save(empty / "1" / name)
    *refused, counted = collect(fresh, empty, exit_code=1)
    assert [line.split(": ")[:2] for line in refused] == [
        [f"refused {empty}/1/{name}", "blank"] for name in ("one.png", "same.png")
    ]
    assert counted == "0 taken, 0 already there, 2 refused"
    assert not list((fresh.folder / own.FOLDER).glob("*.dvc"))


def test_outside_of_a_repository_it_says_so(tmp_path: Path, pictures: Path) -> None:
    outside = Clone(tmp_path)
    outside.environment["PYTHONPATH"] = str(ROOT)
    assert "not readable as a git repository with DVC" in error_of("\n".join(collect(outside, pictures, exit_code=1)))
    assert not (tmp_path / "data").exists()
