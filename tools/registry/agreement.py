"""Let models predict: the test images again, to compare with the recorded predictions, and own test pictures."""

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np

from stages import archive, dataset, predictions, report
from stages.errors import InputError, interrupted_at_once
from stages.metrics import Labels, Probabilities, accuracy_and_loss, checked
from tools.runs import evidence
from tools.runs.evidence import Evidence
from tools.runs.paired import Paired, compare_predictions
from tools.runs.revision import Revision, read_bytes, read_lock

TOLERANCE = 1e-3  # of a probability or the loss: another processor rounds differently


def check(of: Revision) -> None:
    """Check that a revision's records agree with each other, and with what its model predicts for the test images.

    Raises `InputError` if they disagree, and `NotHereError` if model or images are in neither cache nor storage.
    """
    recorded = evidence.load(of)
    model, images = (read_bytes(of, path) for path in (archive.PATH, dataset.TEST))
    test = dataset.parse(io.BytesIO(images), f"{dataset.TEST} at {of}")
    for fault in disagreements(recorded, test.labels, predict(model, test, of)):
        raise InputError(
            f"{fault}; the commit's results are not of its model: check out {of}, run `dvc repro --force evaluate` and "
            "commit the result"
        )


def compare_on_own(before: Revision, after: Revision) -> Paired | None:
    """Compare the models of two revisions on the own test pictures of the second. Return None if it has none.

    The first may be older than the pictures, and record nothing of them. Raises `InputError` if a model or the pictures
    are in neither cache nor storage.
    """
    if dataset.OWN_TEST.as_posix() not in read_lock(after).hashes:
        return None
    pictures = dataset.parse_named(io.BytesIO(read_bytes(after, dataset.OWN_TEST)), f"{dataset.OWN_TEST} at {after}")
    if not len(pictures):
        return None
    predicted = [predict(read_bytes(each, archive.PATH), pictures, each).argmax(axis=1) for each in (before, after)]
    return compare_predictions(pictures.labels, *predicted)


def predict(model: bytes, test: dataset.Dataset, of: Revision) -> Probabilities:
    with (
        tempfile.TemporaryDirectory() as folder,
        interrupted_at_once(lambda: shutil.rmtree(folder, ignore_errors=True)),
    ):
        from stages.model import Predictor  # noqa: PLC0415 - TensorFlow, which no other check needs

        path = Path(folder) / archive.PATH.name
        path.write_bytes(model)
        return checked(Predictor(archive.load(path))(test.images), f"{archive.PATH} at {of}")


def disagreements(recorded: Evidence, labels: Labels, probabilities: Probabilities) -> list[str]:
    """Name the records that the model contradicts. A recorded digit may differ if its probability is as high."""
    table = recorded.predictions
    if len(table) != len(labels):
        return [f"{predictions.PATH}: expected {len(labels):,} rows, found {len(table):,}"]
    rows = np.arange(len(labels))
    confidence = probabilities.max(axis=1)
    of_recorded = probabilities[rows, table["predicted"]]
    loss = accuracy_and_loss(labels, probabilities)[1]
    found = []
    for wrong, what, expected in (
        (table["actual"] != labels, "actual", labels),
        (confidence - of_recorded > TOLERANCE, "predicted", probabilities.argmax(axis=1)),
        (np.abs(table["confidence"] - confidence) > TOLERANCE, "confidence", confidence),
    ):
        if count := int(wrong.sum()):
            first = int(np.argmax(wrong))
            found.append(
                f"{predictions.PATH}: {what} of image {first} is {table[what][first]}, but the model and "
                f"{dataset.TEST} give {expected[first]}; {count:,} of {len(labels):,} images differ"
            )
    if recorded.report.test.loss is not None and abs(recorded.report.test.loss - loss) > TOLERANCE * max(1, loss):
        found.append(f"{report.PATH}: test.loss is {recorded.report.test.loss}, but the model's is {loss}")
    return found
