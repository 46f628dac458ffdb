"""The digits of pictures as JSON, the same for the command and the server."""

from collections.abc import Sequence
from typing import Any

from stages.metrics import Probabilities
from tools.serve.source import Source


def answer(source: Source, names: Sequence[str], probabilities: Probabilities) -> dict[str, Any]:
    """Name the model, and of each picture the digit and the probability of each digit, with full precision."""
    return {
        "model": source.name,
        "md5": source.md5,
        "images": [
            {"image": name, "digit": int(row.argmax()), "confidence": {str(d): float(p) for d, p in enumerate(row)}}
            for name, row in zip(names, probabilities, strict=True)
        ],
    }
