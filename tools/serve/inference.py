"""Predict with ONNX Runtime. The ONNX model of an archive is made once, and kept in the user's cache folder."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from stages.errors import InputError
from stages.files import replacing
from stages.metrics import Probabilities, checked

Images = NDArray[np.float32]  # (n, 28, 28), 0 is background and 1 is ink
Predictor = Callable[[Images], Probabilities]

CONVERTER = Path(__file__).with_name("convert.py")
BATCH = 64  # images: with more, they leave the processor's cache between the steps
NEEDED = (
    "predicting and serving need the packages of requirements-serve.txt: "
    "pip install --require-hashes -r requirements-serve.txt"
)


def make_predictor(content: bytes, name: str, *, workers: int = 1) -> Predictor:
    """Make the function that computes probabilities (n, 10) for images (n, 28, 28) from the bytes of a .keras archive.

    It runs as many batches side by side as there are workers. Raises `InputError` with `name` if the archive cannot be
    converted. The function raises `InputError` if the model gives no probabilities.
    """
    batch = open_model(as_onnx(content, name))

    def predict(images: Images) -> Probabilities:
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        if workers == 1 or len(batches) == 1:
            return checked(np.concatenate([batch(each) for each in batches]), name)
        with ThreadPoolExecutor(workers) as pool:
            return checked(np.concatenate(list(pool.map(batch, batches))), name)

    return predict


def open_model(model: bytes) -> Predictor:
    """Open an ONNX model in ONNX Runtime, which sends nothing to its makers."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it must be set before the import
    try:
        import onnxruntime  # noqa: PLC0415 - an environment for training lacks it
    except ModuleNotFoundError:
        raise InputError(NEEDED) from None

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # batches side by side are faster
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(images: Images) -> Probabilities:
        (probabilities,) = session.run(None, {"images": images})
        return np.asarray(probabilities, np.float32)

    return predict


def as_onnx(content: bytes, name: str) -> bytes:
    """Return the ONNX model of an archive: from the user's cache if it is there whole, or made now and kept there.

    The file is named by the archive's SHA-256, together with that of the converter's code.
    """
    key = hashlib.sha256(content + CONVERTER.read_bytes()).hexdigest()
    path = cache() / f"{key}.onnx"
    checksum = path.with_suffix(".onnx.sha256")  # as `sha256sum` writes and checks it
    with suppress(OSError, UnicodeDecodeError):
        model = path.read_bytes()
        if checksum.read_text(encoding="utf-8").split() == [hashlib.sha256(model).hexdigest(), path.name]:
            return model
    try:
        from tools.serve.convert import convert  # noqa: PLC0415 - not needed again
    except ModuleNotFoundError:
        raise InputError(NEEDED) from None
    model = convert(content, name)
    with suppress(OSError):  # a cache that cannot be written is only slower
        with replacing(path) as temporary:
            temporary.write_bytes(model)
        with replacing(checksum) as temporary:
            temporary.write_text(f"{hashlib.sha256(model).hexdigest()}  {path.name}\n", encoding="utf-8")
    return model


def cache() -> Path:
    """Return the folder of models in the user's cache."""
    return Path(pooch.os_cache("mnist-lstm")) / "models"
