"""Add labelled pictures to data/own, which the next model learns from: `make collect FROM=folder`.

The folder has folders named 0 to 9, which hold pictures of that digit in PNG or JPEG. Each must be one that `predict`
reads, and must not be in data/own already. It is copied unchanged, named after its content, and DVC tracks it.
Pictures that are refused are named with the reason. The exit code is 1 if nothing could be taken.
"""

import hashlib
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvc.repo import Repo

from stages import own
from stages.errors import InputError, one_line_errors
from stages.own import Picture
from stages.pictures import read_all
from stages.terminal import printable
from tools import make_parser
from tools.runs.revision import git_errors

BYTES = 50_000_000  # of a picture's file: a camera's have 10 MB
TEMPORARY = Path(".dvc/tmp")  # DVC's, on the disk of the repository and not in git
ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}  # by the first bytes


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="a folder with folders named 0 to 9 that hold pictures")
    source = parser.parse_args().folder
    if not source.is_dir():
        raise InputError(f"{printable(str(source))}: expected a folder with folders named 0 to 9, found none")
    with git_errors(Path.cwd()), Repo() as repo:
        outcome, before = collect(source), records()
        repo.scm_context.quiet = True  # says what to commit, as the last line does
        if outcome.digits:
            repo.add([str(own.FOLDER / digit) for digit in sorted(outcome.digits)])
    print("\n".join(outcome.told()))
    if records() != before:
        print(f"now run `dvc repro`, and commit {own.FOLDER} with the result")
    sys.exit(0 if outcome.taken or outcome.known else 1)


def records() -> dict[str, bytes]:
    """Read what DVC knows of data/own."""
    return {path.name: path.read_bytes() for path in own.FOLDER.glob("*.dvc")}


@dataclass(frozen=True)
class Copy:
    """A copy of a picture, which no other program changes."""

    originals: list[Path]  # with this content, under one digit
    picture: Picture


@dataclass(frozen=True)
class Outcome:
    """What became of the pictures of a folder."""

    taken: list[Picture] = field(default_factory=list)
    known: list[Path] = field(default_factory=list)  # which were there already
    refused: list[str] = field(default_factory=list)  # and why

    @property
    def digits(self) -> set[str]:
        """The folders of these pictures. After an interruption, DVC may not track known pictures yet."""
        return {str(picture.digit) for picture in self.taken} | {path.parent.name for path in self.known}

    def refuse(self, paths: Iterable[Path], reason: object) -> None:
        self.refused.extend(f"{printable(str(path))}: {reason}" for path in paths)

    def told(self) -> Iterator[str]:
        yield from (f"refused {line}" for line in self.refused)
        yield f"{len(self.taken):,} taken, {len(self.known):,} already there, {len(self.refused):,} refused"
        if self.taken:
            of_digit = Counter(picture.digit for picture in self.taken)
            of_part = Counter(picture.part for picture in self.taken)
            yield "taken: " + ", ".join(f"{count:,} of {digit}" for digit, count in sorted(of_digit.items()))
            yield "for " + ", ".join(f"{part} {of_part[part]:,}" for part in own.PARTS)


def collect(source: Path) -> Outcome:
    """Copy the pictures of a folder that are new and readable to data/own."""
    here = {picture.sha256: picture for picture in own.find_all()}
    outcome = Outcome()
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="collect-", dir=TEMPORARY) as folder:
        new = list(without_known(copy_all(source, Path(folder), outcome), here, outcome))
        outcome.taken.extend(move(copy.picture) for copy in list(readable(new, outcome)))
    return outcome


def copy_all(source: Path, folder: Path, outcome: Outcome) -> Iterator[Copy]:
    """Copy what may be pictures, and refuse the rest."""
    for digit, path in labelled(source, outcome):
        try:
            yield Copy([path], copy(path, folder, digit))
        except (InputError, OSError) as error:
            outcome.refuse([path], error)


def labelled(source: Path, outcome: Outcome) -> Iterator[tuple[int, Path]]:
    """Give each file with its digit."""
    for folder in visible(source):
        if folder.name not in own.DIGITS or folder.is_symlink() or not folder.is_dir():
            outcome.refuse([folder], f"expected a folder named {own.DIGITS[0]} to {own.DIGITS[-1]}")
            continue
        for path in visible(folder):
            yield int(folder.name), path


def visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def copy(path: Path, folder: Path, digit: int) -> Picture:
    """Copy a picture, and name the copy after its content.

    Raises `InputError` if the file is no picture.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputError("expected a file, found a folder, link, pipe or device")
    with path.open("rb") as file:
        content = file.read(BYTES + 1)
    if len(content) > BYTES:
        raise InputError(f"expected at most {BYTES:,} bytes, found more")
    ending = next((ending for start, ending in ENDINGS.items() if content.startswith(start)), None)
    if ending is None:
        raise InputError("no readable PNG or JPEG")
    sha256 = hashlib.sha256(content).hexdigest()
    made = Picture(folder / f"{own.name_of(sha256)}{ending}", digit, sha256)
    made.path.write_bytes(content)
    return made


def without_known(copies: Iterable[Copy], here: Mapping[str, Picture], outcome: Outcome) -> Iterator[Copy]:
    """Give each new picture once. Refuse a picture that is known, or comes again, under another digit."""
    same: dict[str, dict[int, Copy]] = {}  # by content and digit
    for made in copies:
        of_content = same.setdefault(made.picture.sha256, {})
        of_content.setdefault(made.picture.digit, Copy([], made.picture)).originals.extend(made.originals)
    for sha256, of_content in same.items():
        there = here.get(sha256)
        first, *others = of_content.values()
        if others:
            for each, other in [(first, others[0]), *((each, first) for each in others)]:
                same_as = printable(str(other.originals[0]))
                outcome.refuse(each.originals, f"the same picture as {same_as}, under another digit")
        elif there and there.digit != first.picture.digit:
            outcome.refuse(first.originals, f"the same picture as {there.path}; move that file to change its digit")
        elif there:
            outcome.known.extend(first.originals)
        elif (path := path_of(first.picture)).exists():
            outcome.refuse(first.originals, f"{path} has its name and other content; give that file another name")
        else:
            yield first


def readable(copies: Sequence[Copy], outcome: Outcome) -> Iterator[Copy]:
    """Give the pictures that `predict` reads, and refuse the rest."""
    for made, image in zip(copies, read_all([made.picture.path for made in copies]), strict=True):
        if isinstance(image, InputError):
            outcome.refuse(made.originals, str(image).removeprefix(f"{made.picture.path}: "))
        else:
            outcome.known.extend(made.originals[1:])
            yield made


def move(made: Picture) -> Picture:
    """Move a copy to data/own."""
    path = path_of(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made.path, path)
    return Picture(path, made.digit, made.sha256)


def path_of(made: Picture) -> Path:
    """Return the place of a copy in data/own."""
    return own.FOLDER / str(made.digit) / made.path.name


if __name__ == "__main__":
    with one_line_errors():
        main()
