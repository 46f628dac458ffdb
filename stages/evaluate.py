"""models/lstm.keras and the sets of images -> reports/: metrics, predictions, confusion matrix, pictures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages import archive, arithmetic, confusion, dataset, figures, history, metrics, predictions, report
from stages.dataset import CLASSES, Dataset, Named
from stages.errors import RESTORE, interrupted_at_once, one_line_errors, remedied
from stages.model import Predictor
from stages.params import load_params
from stages.report import Digit, Own, Part, Report, Size, Test


def main() -> None:
    load_params()  # checks the whole file, although this stage reads no parameter
    network = archive.load()
    epochs = history.load()
    train, validation, test = (dataset.load(path) for path in (dataset.TRAIN, dataset.VALIDATION, dataset.TEST))
    own_test = dataset.load_named()
    size = Size(parameters=network.count_params(), bytes=archive.PATH.stat().st_size)
    predict = Predictor(network)
    if fault := arithmetic.fault([predict.traced.graph]):
        print(f"the bits of this evaluation are those of this kind of processor: {fault}")

    with remedied(RESTORE):
        result = evaluate(predict, train, validation, test, own_test, size=size)

    report.save(result.report)
    predictions.save(result.predictions)
    predictions.save(result.own_predictions, predictions.OWN_PATH)
    confusion.save(result.counts)
    figures.save(figures.learning_curves(epochs), figures.LEARNING_CURVES)
    figures.save(figures.confusion_matrix(result.counts), figures.CONFUSION_MATRIX)
    figures.save(figures.most_confident_mistakes(test.images, result.predictions), figures.MISTAKES)
    print(
        f"test accuracy {result.report.test.accuracy:.2%}: "
        f"{result.report.test.errors:,} of {len(test):,} images misclassified"
    )
    if own := result.report.own_test:
        print(f"own test accuracy {own.accuracy:.2%}: {own.errors:,} of {own.images:,} pictures misclassified")


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation."""

    report: Report
    predictions: pd.DataFrame  # of the test images
    own_predictions: pd.DataFrame  # of the test pictures of our own
    counts: confusion.Counts


def evaluate(
    predict: Predictor, train: Dataset, validation: Dataset, test: Dataset, own_test: Named, *, size: Size
) -> Evaluation:
    """Measure a model on the three sets, and on the test pictures of our own where there are any.

    Raises `InputError` if the model's outputs are not probabilities.
    """
    of_train, of_validation, of_test, of_own = (
        metrics.checked(predict(part.images), str(archive.PATH)) if len(part) else np.empty((0, CLASSES), np.float32)
        for part in (train, validation, test, own_test)
    )
    return Evaluation(
        Report(
            train=measure(train.labels, of_train),
            validation=measure(validation.labels, of_validation),
            test=measure_test(test.labels, of_test),
            own_test=measure_own(own_test.labels, of_own) if len(own_test) else None,
            model=size,
        ),
        predictions.make(test.labels, of_test),
        predictions.make_own(own_test.names, own_test.labels, of_own),
        confusion.count(test.labels, of_test.argmax(axis=1)),
    )


def measure(labels: metrics.Labels, probabilities: metrics.Probabilities) -> Part:
    accuracy, loss = metrics.accuracy_and_loss(labels, probabilities)
    return Part(accuracy=accuracy, loss=loss)


def measure_own(labels: metrics.Labels, probabilities: metrics.Probabilities) -> Own:
    errors = int((probabilities.argmax(axis=1) != labels).sum())
    return Own(**dict(measure(labels, probabilities)), images=len(labels), errors=errors)


def measure_test(labels: metrics.Labels, probabilities: metrics.Probabilities) -> Test:
    """Compute all metrics of a test set."""
    predicted = probabilities.argmax(axis=1)
    per_class = confusion.scores(labels, predicted)
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
