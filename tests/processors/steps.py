"""Compute what decides the bits of a run, step by step, and print the MD5 of each result.

`make test-processors` runs this program on several processors and compares the lines.
"""

import argparse
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path

import numpy as np

from stages import archive, dataset, evaluate, history, own
from stages.dataset import Dataset
from stages.history import Epoch
from stages.prepare import digits_images, split
from tests.parameters import AUGMENT, make_params, write_params

BATCH = 64
STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cap", help="the highest instruction set that oneDNN may use, such as AVX2")
    cap = parser.parse_args().cap

    from stages import runtime  # noqa: F401, PLC0415 - it removes such settings, so the cap comes after it

    if cap:
        os.environ["ONEDNN_MAX_CPU_ISA"] = cap
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, content in results():
            print(hashlib.md5(content, usedforsecurity=False).hexdigest(), name, flush=True)


def results() -> Iterator[tuple[str, bytes]]:
    """Compute each result and its name."""
    learning, test = digits_images()
    training, validation = split(learning, size=len(learning) // 5, seed=0)
    yield "images of all sets", joined(each.images for each in (training, validation, test))
    yield from training_of(first(training, BATCH), first(validation, BATCH))
    yield from evaluation_of(*(first(each, BATCH) for each in (training, validation, test)))


def training_of(training: Dataset, validation: Dataset) -> Iterator[tuple[str, bytes]]:
    """Train the default network on one batch of augmented images. Validation measures the average of the weights."""
    from stages import arithmetic, model, train  # noqa: PLC0415

    chosen = make_params(**AUGMENT, train__ema=0.5)
    network = model.build(chosen.model, seed=chosen.train.seed)
    yield "initial variables", joined(network.variables)
    for variable in network.trainable_variables:
        yield f"initial {variable.path}", joined([variable])
    optimizer = train.make_optimizer(network, chosen.train, images=len(training))
    steps = train.trace(network, optimizer, chosen, images=len(training))
    fault = arithmetic.fault(steps.graphs)
    yield f"fault: {fault}", str(fault).encode()
    batch = next(iter(train.batches(training, chosen.train, chosen.augment)))
    yield "augmented batch", joined(batch)
    for step in range(1, STEPS + 1):
        loss, correct, rate = steps.learn(*batch)
        yield f"step {step}: loss", joined([loss, correct, rate])
        for variable in network.trainable_variables:
            yield f"step {step}: {variable.path}", joined([variable])
    yield "probabilities in validation", joined([steps.predict(validation.images)])


def evaluation_of(training: Dataset, validation: Dataset, test: Dataset) -> Iterator[tuple[str, bytes]]:
    """Run the stage on a small network, and return each file that it writes."""
    from stages import model  # noqa: PLC0415

    write_params(Path())
    small = make_params(model__lstm_units=[16], model__dense_units=8)
    archive.PATH.parent.mkdir()
    archive.save(model.build(small.model, seed=1))
    yield str(archive.PATH), archive.PATH.read_bytes()
    dataset.TRAIN.parent.mkdir(parents=True)
    for part, path in ((training, dataset.TRAIN), (validation, dataset.VALIDATION), (test, dataset.TEST)):
        dataset.save(part, path)
    dataset.save(own.read([]), dataset.OWN_TEST)
    history.PATH.parent.mkdir()
    history.save(Epoch(number, 1 - 1 / number, 2 / number, 1 - 1 / number, 1 / number, 0.001) for number in (2, 3, 4))
    with redirect_stdout(io.StringIO()):
        evaluate.main()
    for path in sorted(history.PATH.parent.iterdir()):
        yield str(path), path.read_bytes()


def first(images: Dataset, count: int) -> Dataset:
    return Dataset(images.images[:count], images.labels[:count])


def joined(tensors: Iterable[object]) -> bytes:
    return b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors)


if __name__ == "__main__":
    main()
