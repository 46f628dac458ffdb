"""Which digits do these pictures show? `python -m tools.predict IMAGE... [--model lstm@prod] [--repo URL] [--json]`.

Pictures, or folders of them, are PNG or JPEG of one digit each. The model is the workspace's, or that of a registered
version, a stage or any other revision, of this repository or another clone of it, kept in the user's cache.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pooch

from stages import archive
from stages.dataset import CLASSES
from stages.errors import InputError, interrupted_at_once, one_line_errors
from stages.files import replacing
from stages.metrics import Probabilities
from stages.model import make_predictor
from tools import ROOT, make_parser, pictures
from tools.runs import lock
from tools.runs.revision import read_bytes, read_lock, resolve


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a PNG or JPEG, or a folder of them")
    parser.add_argument("--model", help="lstm@v1.2.0, lstm@prod or another revision (default: the workspace's model)")
    parser.add_argument("--repo", help="folder or URL of the clone that has the revision (default: this one)")
    parser.add_argument("--json", action="store_true", help="print JSON, with full precision")
    arguments = parser.parse_args()
    if arguments.repo and not arguments.model:
        parser.error("--repo needs --model: which revision's model is it to be?")

    paths = find_pictures(arguments.images)
    images = np.stack([pictures.read(path) for path in paths])
    name = arguments.model or str(archive.PATH)
    path = fetch(arguments.model, arguments.repo or str(ROOT)) if arguments.model else ROOT / archive.PATH
    with interrupted_at_once():
        probabilities = make_predictor(archive.load(path))(images)
    print(as_json(name, path, paths, probabilities) if arguments.json else table(paths, probabilities))


def find_pictures(named: Iterable[Path]) -> list[Path]:
    """List the pictures, those in a named folder by name.

    Raises `InputError` if a folder has none.
    """
    found = []
    for path in named:
        inside = sorted(each for each in path.glob("*") if each.suffix.lower() in pictures.SUFFIXES)
        if path.is_dir() and not inside:
            raise InputError(f"{path}: expected a folder of pictures, found none ending in {ENDINGS}")
        found += inside if path.is_dir() else [path]
    return found


ENDINGS = ", ".join(sorted(pictures.SUFFIXES))


def fetch(name: str, repo: str) -> Path:
    """Return the path of a revision's model in the user's cache folder, fetching it if it is not there whole."""
    of = resolve(name, repo)
    md5 = read_lock(of).hashes.get(archive.PATH.as_posix())
    if md5 is None:
        raise InputError(f"{lock.PATH} at {name}: names no {archive.PATH}")
    path = Path(pooch.os_cache("mnist-lstm")) / "models" / f"{md5}.keras"
    if not (path.exists() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5):
        content = read_bytes(of, archive.PATH)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path


def table(paths: Sequence[Path], probabilities: Probabilities) -> str:
    """Lay out a row a picture: the digit, and how sure the model is of each."""
    width = max(len("image"), *(len(str(path)) for path in paths))
    lines = [f"{'image':{width}}  digit" + "".join(f"{digit:>7}" for digit in range(CLASSES))]
    lines += [
        f"{path!s:{width}}  {row.argmax():>5}" + "".join(f"{share:>7.1%}" for share in row)
        for path, row in zip(paths, probabilities, strict=True)
    ]
    return "\n".join(lines)


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
