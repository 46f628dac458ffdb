"""Compare the ONNX model with Keras on every test image: `python -m tools.serve.equal`, after `make repro`.

The digits must be the same, and each probability within 0.00001. This needs TensorFlow, which serving does not.
"""

import numpy as np

from stages import archive, dataset
from stages.errors import InputError, interrupted_at_once, one_line_errors
from stages.metrics import Probabilities
from stages.pictures import cores
from tools import make_parser
from tools.serve import source
from tools.serve.inference import Images, make_predictor

TOLERANCE = 1e-5  # of a probability


def main() -> None:
    make_parser(__doc__).parse_args()
    ours = source.workspace()
    images = dataset.load(dataset.TEST).images
    print(compare(make_predictor(ours.content, ours.name, workers=cores())(images), by_keras(images)))


def by_keras(images: Images) -> Probabilities:
    with interrupted_at_once():
        from stages import model  # noqa: PLC0415 - TensorFlow, after ONNX Runtime has done its part

        return model.Predictor(archive.load())(images)


def compare(ours: Probabilities, expected: Probabilities) -> str:
    """Say that two predictions of the same images are equal.

    Raises `InputError` if they are not.
    """
    difference = float(np.abs(ours - expected).max())
    others = int((ours.argmax(axis=1) != expected.argmax(axis=1)).sum())
    found = f"{others:,} other digits on {len(expected):,} test images, probabilities within {difference:.1e}"
    if others or not difference <= TOLERANCE:
        raise InputError(f"ONNX and Keras: {found}; expected no other digit, and within {TOLERANCE:.0e}")
    return f"ONNX and Keras: {found}"


if __name__ == "__main__":
    with one_line_errors():
        main()
