"""data/own: labelled pictures of our own, in one folder a digit that DVC tracks: data/own/3 by data/own/3.dvc.

`make collect` adds pictures. A picture is known by its content: a copy under another name or digit is the same picture.
The content also decides whether a picture is for training, validation or test, so it stays there as others are added.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from stages.dataset import CLASSES, SIDE, Named
from stages.errors import InputError
from stages.pictures import read_all
from stages.terminal import printable

FOLDER = Path("data/own")
DIGITS = [str(digit) for digit in range(CLASSES)]  # the names of the folders

Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Picture:
    """A labelled picture."""

    path: Path
    digit: int
    sha256: str  # of the file

    @property
    def name(self) -> str:
        """The name made from the content, the same wherever the file lies."""
        return name_of(self.sha256)

    @property
    def part(self) -> Part:
        """What the picture is for: 8 of 10 are for training, 1 for validation and 1 for test."""
        return {8: "validation", 9: "test"}.get(int(self.sha256, 16) % 10, "training")  # type: ignore[return-value]


def name_of(sha256: str) -> str:
    return sha256[:32]


def find() -> list[Picture]:
    """List the pictures, in the order of their content.

    Raises `InputError` if one is there twice, or if what is here is not what DVC tracks.
    """
    for folder in (FOLDER / digit for digit in DIGITS):
        if folder.is_dir() and not folder.with_name(_file_of(folder.name)).exists():
            raise InputError(f"{folder}: DVC does not track it, so nobody else would get it; run `dvc add {folder}`")
    return find_all()


def find_all() -> list[Picture]:
    """List the pictures that are here, whether DVC tracks them or not.

    Raises `InputError` if one is there twice, or if DVC or HEAD has pictures that are not here.
    """
    if not FOLDER.is_dir():
        return []
    names = {path.name for path in FOLDER.iterdir() if not path.name.startswith(".")}
    for name in sorted(names - {*DIGITS, *map(_file_of, DIGITS)}):
        raise InputError(f"{printable(str(FOLDER / name))}: expected folders 0 to {CLASSES - 1}; move or remove it")
    for digit in DIGITS:
        folder, tracked = FOLDER / digit, FOLDER / _file_of(digit)
        if digit in names and not folder.is_dir():
            raise InputError(f"{folder}: expected a folder, found none; move or remove it")
        if digit not in names and tracked.name in names:
            raise InputError(
                f"{folder}: not here, though {tracked} names it; get it with `dvc pull`, or drop all its pictures with "
                f"`dvc remove {tracked}`"
            )
    if names:
        refuse_stale()
    found: dict[str, Picture] = {}
    for picture in _pictures(digit for digit in DIGITS if digit in names):
        if other := found.get(picture.sha256):
            raise InputError(
                f"{printable(str(other.path))} and {printable(str(picture.path))}: the same picture twice; remove one"
            )
        found[picture.sha256] = picture
    return [found[sha256] for sha256 in sorted(found)]


def _file_of(digit: str) -> str:
    return f"{digit}.dvc"


def _pictures(digits: Iterable[str]) -> Iterator[Picture]:
    for digit in digits:
        for path in sorted((FOLDER / digit).iterdir()):
            if path.name.startswith("."):
                continue
            if not path.is_file():
                raise InputError(f"{printable(str(path))}: expected a PNG or JPEG, found none; move or remove it")
            with path.open("rb") as file:
                yield Picture(path, int(digit), hashlib.file_digest(file, "sha256").hexdigest())


def refuse_stale() -> None:
    """Raise `InputError` if HEAD records pictures that never were in this clone.

    After a `git pull` without `dvc pull`, `dvc repro` takes the pictures of others for removed, and records that.
    """
    root = Path(os.environ.get("DVC_ROOT", "."))  # not the working folder where DVC runs an experiment in another
    if not (root / ".dvc").is_dir():
        return
    from dvc.exceptions import DvcException, NotDvcRepoError  # noqa: PLC0415 - takes half a second
    from dvc.repo import Repo  # noqa: PLC0415
    from scmrepo.exceptions import SCMError  # noqa: PLC0415

    try:
        with Repo(str(root), rev="HEAD") as committed:
            outs = {Path(committed.fs.relpath(out.fs_path, committed.root_dir)): out for out in committed.index.outs}
            lost = {folder for folder, out in outs.items() if folder.parent == FOLDER and not _was_here(folder, out)}
    except (NotDvcRepoError, SCMError):
        return  # nothing is committed yet
    except DvcException as error:
        raise InputError(f"HEAD: DVC cannot read it ({error}); correct dvc.yaml and commit it") from None
    for folder in sorted(lost):
        raise InputError(
            f"{folder}: HEAD has pictures of others that this clone has not got yet; get them before anything else: "
            f"`git restore {FOLDER} && dvc pull`"
        )


def _was_here(folder: Path, out: Any) -> bool:
    """Tell whether each picture that a commit lists is here, or was: then it is in the cache."""
    listed = out.get_obj()
    return listed is not None and all(
        folder.joinpath(*parts).exists() or out.cache.exists(of.value) for parts, _, of in listed
    )


def read(pictures: Iterable[Picture]) -> Named:
    """Read pictures as `predict` does, in their order.

    Raises `InputError` if one is no picture of one digit.
    """
    pictures = list(pictures)
    images = [np.empty((0, SIDE, SIDE), np.float32)]
    for image in read_all([picture.path for picture in pictures]):
        if isinstance(image, InputError):
            raise InputError(f"{image}; move or remove it")
        images.append(image[None])
    return Named(
        np.concatenate(images),
        np.array([picture.digit for picture in pictures], np.uint8),
        np.array([picture.name for picture in pictures], "U32"),
    )
