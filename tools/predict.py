"""Which digits do these pictures show? `python -m tools.predict IMAGE... [--model lstm@prod] [--repo URL] [--json]`.

Pictures are PNG or JPEG of one digit each. A file that cannot be read ends the command. In a folder, files that cannot
be read are skipped: each is named with the reason on the standard error, and counted. The model is the workspace's, or
that of a registered version, a stage or any other revision, of this repository or another clone of it, kept in the
user's cache.
"""

import hashlib
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from stages import archive
from stages.dataset import CLASSES
from stages.errors import InputError, interrupted_at_once, one_line_errors
from stages.files import replacing
from stages.metrics import Probabilities, checked
from stages.model import Predictor
from stages.terminal import printable
from tools import ROOT, make_parser, pictures, tables
from tools.runs import lock
from tools.runs.revision import read_bytes, read_lock, remove_clones, resolve


def main() -> None:
    parser = make_parser(__doc__)
    parser.epilog = "In a folder, files that are not pictures of a digit are skipped, named and counted."
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a PNG or JPEG, or a folder of them")
    parser.add_argument("--model", help="lstm@v1.2.0, lstm@prod or another revision (default: the workspace's model)")
    parser.add_argument("--repo", help="folder or URL of the clone that has the revision (default: this one)")
    parser.add_argument("--json", action="store_true", help="print JSON, with full precision")
    arguments = parser.parse_args()
    for option in ("model", "repo"):
        if getattr(arguments, option) == "":
            parser.error(f"--{option} is empty: give it a value, or leave it out")
    if arguments.repo and not arguments.model:
        parser.error("--repo needs --model: which revision's model is it to be?")
    if isinstance(sys.__stdout__, io.TextIOWrapper):  # DVC's colours wrap sys.stdout
        sys.__stdout__.reconfigure(errors="backslashreplace")  # for letters that the terminal's encoding lacks

    paths, images = read(arguments.images)
    name = arguments.model or str(archive.PATH)
    path = fetch(arguments.model, arguments.repo or str(ROOT)) if arguments.model else ROOT / archive.PATH
    with interrupted_at_once():
        probabilities = checked(Predictor(archive.load(path))(images), name)
    print(as_json(name, path, paths, probabilities) if arguments.json else table(paths, probabilities))


def read(named: Iterable[Path]) -> tuple[list[Path], NDArray[np.float32]]:
    """Read pictures, and those of folders by name, as (n, 28, 28).

    Raises `InputError` if a named file cannot be read, or nothing in the folders can.
    """
    found, skipped = [], 0
    for path in named:
        for each in sorted(path.iterdir()) if path.is_dir() else [path]:
            try:
                found.append((each, pictures.read(each)))
            except InputError as error:
                if each is path:
                    raise
                skipped += 1
                print(f"skipped {error}", file=sys.stderr)
    if skipped:
        print(f"skipped {skipped:,} of {skipped + len(found):,} files", file=sys.stderr)
    if not found:
        names = ", ".join(printable(str(path)) for path in named)
        raise InputError(f"{names}: expected pictures of a digit in PNG or JPEG, found none")
    return [path for path, _ in found], np.stack([image for _, image in found])


def fetch(name: str, repo: str) -> Path:
    """Return the path of a revision's model in the user's cache folder, fetching it if it is not there whole."""
    try:
        of = resolve(name, repo)
        md5 = read_lock(of).hashes.get(archive.PATH.as_posix())
        if md5 is None:
            raise InputError(f"{lock.PATH} at {name}: names no {archive.PATH}")
        path = Path(pooch.os_cache("mnist-lstm")) / "models" / f"{md5}.keras"
        if not (path.exists() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5):
            content = read_bytes(of, archive.PATH)
            with replacing(path) as temporary:
                temporary.write_bytes(content)
    finally:
        remove_clones()  # Ctrl-C while TensorFlow computes ends the process before any exit handler
    return path


def table(paths: Sequence[Path], probabilities: Probabilities) -> str:
    """Lay out a row a picture: the digit, and the probability of each digit."""
    rows = [
        (printable(str(path)), row.argmax(), *(f"{share:.1%}" for share in row))
        for path, row in zip(paths, probabilities, strict=True)
    ]
    return tables.text(("image", "digit", *map(str, range(CLASSES))), rows)


def as_json(name: str, model: Path, paths: Sequence[Path], probabilities: Probabilities) -> str:
    return json.dumps(
        {
            "model": name,
            "md5": hashlib.md5(model.read_bytes(), usedforsecurity=False).hexdigest(),
            "images": [
                {"image": str(path), "digit": int(row.argmax()), "confidence": dict(enumerate(map(float, row)))}
                for path, row in zip(paths, probabilities, strict=True)
            ],
        },
        indent=2,
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
