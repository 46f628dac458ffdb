"""models/lstm.keras and the three sets -> reports/: metrics, predictions, confusion matrix, pictures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from stages import archive, confusion, dataset, figures, history, metrics, predictions, report
from stages.dataset import CLASSES, Dataset
from stages.errors import RESTORE, interrupted_at_once, one_line_errors, remedied
from stages.model import Predictor
from stages.params import load_params
from stages.report import Digit, Part, Report, Size, Test


def main() -> None:
    load_params()  # checks the whole file, although this stage reads no parameter
    network = archive.load()
    epochs = history.load()
    train, validation, test = (dataset.load(path) for path in (dataset.TRAIN, dataset.VALIDATION, dataset.TEST))
    size = Size(parameters=network.count_params(), bytes=archive.PATH.stat().st_size)

    with remedied(RESTORE):
        result = evaluate(Predictor(network), train, validation, test, size)

    report.save(result.report)
    predictions.save(result.predictions)
    confusion.save(result.counts)
    figures.save(figures.learning_curves(epochs), figures.LEARNING_CURVES)
    figures.save(figures.confusion_matrix(result.counts), figures.CONFUSION_MATRIX)
    figures.save(figures.most_confident_mistakes(test.images, result.predictions), figures.MISTAKES)
    print(
        f"test accuracy {result.report.test.accuracy:.2%}: "
        f"{result.report.test.errors:,} of {len(test):,} images misclassified"
    )


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation."""

    report: Report
    predictions: pd.DataFrame  # of the test images
    counts: confusion.Counts


def evaluate(predict: Predictor, train: Dataset, validation: Dataset, test: Dataset, size: Size) -> Evaluation:
    """Measure a model on the three sets.

    Raises `InputError` if the model's outputs are not probabilities.
    """
    of_train, of_validation, of_test = (
        metrics.checked(predict(part.images), str(archive.PATH)) for part in (train, validation, test)
    )
    return Evaluation(
        Report(
            train=measure(train.labels, of_train),
            validation=measure(validation.labels, of_validation),
            test=measure_test(test.labels, of_test),
            model=size,
        ),
        predictions.make(test.labels, of_test),
        confusion.count(test.labels, of_test.argmax(axis=1)),
    )


def measure(labels: metrics.Labels, probabilities: metrics.Probabilities) -> Part:
    accuracy, loss = metrics.accuracy_and_loss(labels, probabilities)
    return Part(accuracy=accuracy, loss=loss)


def measure_test(labels: metrics.Labels, probabilities: metrics.Probabilities) -> Test:
    """Compute all metrics of a test set. A digit that is never predicted has precision 0."""
    predicted = probabilities.argmax(axis=1)
    per_class: tuple[NDArray[np.float64], ...] = precision_recall_fscore_support(
        labels, predicted, labels=range(CLASSES), zero_division=0
    )
    means = {name: metrics.rounded(each.mean()) for name, each in zip(SCORES, per_class, strict=False)}
    return Test(
        **dict(measure(labels, probabilities)),
        **means,
        errors=int((predicted != labels).sum()),
        calibration_error=metrics.rounded(metrics.calibration_error(labels, probabilities)),
        per_class=[
            Digit(
                digit=digit,
                images=int(images),
                **{name: metrics.rounded(score) for name, score in zip(SCORES, scores, strict=True)},
            )
            for digit, (*scores, images) in enumerate(zip(*per_class, strict=True))
        ],
    )


SCORES = ("precision", "recall", "f1")

if __name__ == "__main__":
    with one_line_errors(), interrupted_at_once():
        main()
