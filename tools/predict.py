"""Which digits do these pictures show? `python -m tools.predict IMAGE... [--model lstm@prod] [--repo URL] [--json]`.

Pictures are PNG or JPEG of one digit each. A file that cannot be read ends the command. In a folder, files that cannot
be read are skipped: each is named with the reason on the standard error, and counted. The model is the workspace's, or
that of a registered version, a stage or any other revision, of this repository or another clone of it, kept in the
user's cache. TensorFlow is not needed: the model runs as ONNX (tools/serve/).
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.dataset import CLASSES
from stages.errors import InputError, one_line_errors
from stages.metrics import Probabilities
from stages.pictures import cores, read_all
from stages.terminal import printable
from tools import ROOT, make_parser, tables
from tools.serve import source
from tools.serve.answer import answer
from tools.serve.inference import make_predictor


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
            raise InputError(f"--{option} is empty; give it a value, or leave it out")
    if arguments.repo and not arguments.model:
        raise InputError("--repo needs --model, which names the revision of the model")
    if isinstance(sys.__stdout__, io.TextIOWrapper):  # DVC's colours wrap sys.stdout
        sys.__stdout__.reconfigure(errors="backslashreplace")  # for letters that the terminal's encoding lacks

    of = source.fetch(arguments.model, arguments.repo or str(ROOT)) if arguments.model else source.workspace()
    paths, images = read(arguments.images)
    probabilities = make_predictor(of.content, of.name, workers=cores())(images)
    print(as_json(of, paths, probabilities) if arguments.json else table(paths, probabilities))


def read(named: Iterable[Path]) -> tuple[list[Path], NDArray[np.float32]]:
    """Read pictures, and those of folders by name, as (n, 28, 28).

    Raises `InputError` if a named file cannot be read, or nothing in the folders can.
    """
    named = list(named)
    files = [each for path in named for each in (sorted(path.iterdir()) if path.is_dir() else [path])]
    found, skipped = [], 0
    for path, image in zip(files, read_all(files), strict=True):
        if not isinstance(image, InputError):
            found.append((path, image))
        elif path in named:
            raise image
        else:
            skipped += 1
            print(f"skipped {image}", file=sys.stderr)
    if skipped:
        print(f"skipped {skipped:,} of {skipped + len(found):,} files", file=sys.stderr)
    if not found:
        names = ", ".join(printable(str(path)) for path in named)
        raise InputError(f"{names}: expected pictures of a digit in PNG or JPEG, found none")
    return [path for path, _ in found], np.stack([image for _, image in found])


def table(paths: Sequence[Path], probabilities: Probabilities) -> str:
    """Lay out a row a picture: the digit, and the probability of each digit."""
    rows = [
        (printable(str(path)), row.argmax(), *(f"{share:.1%}" for share in row))
        for path, row in zip(paths, probabilities, strict=True)
    ]
    return tables.text(("image", "digit", *map(str, range(CLASSES))), rows)


def as_json(of: source.Source, paths: Sequence[Path], probabilities: Probabilities) -> str:
    return json.dumps(answer(of, list(map(str, paths)), probabilities), indent=2)


if __name__ == "__main__":
    with one_line_errors():
        main()
