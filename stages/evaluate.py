"""models/lstm.keras and the three sets -> reports/: metrics, predictions, confusion matrix, pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from stages import archive, dataset, figures, metrics
from stages.errors import RESTORE, InputError, interrupted_at_once, one_line_errors
from stages.files import replacing
from stages.history import HISTORY, load_history
from stages.model import make_predictor
from stages.params import load_params

REPORTS = Path("reports")


def main() -> None:
    load_params()
    model = archive.load(archive.MODEL)
    history = load_history(HISTORY)
    train, validation, test = (dataset.load(path) for path in (dataset.TRAIN, dataset.VALIDATION, dataset.TEST))

    predict = make_predictor(model)
    of_train, of_validation, of_test = (checked(predict(part.images)) for part in (train, validation, test))
    predicted, confidence = of_test.argmax(axis=1), of_test.max(axis=1)
    counts = confusion_matrix(test.labels, predicted, labels=list(metrics.DIGITS))
    report = {
        "train": metrics.accuracy_and_loss(train.labels, of_train),
        "validation": metrics.accuracy_and_loss(validation.labels, of_validation),
        "test": metrics.full_report(test.labels, of_test),
        "model": {"parameters": model.count_params(), "bytes": archive.MODEL.stat().st_size},
    }

    save_json(report, REPORTS / "metrics.json")
    save_table(
        pd.DataFrame({"actual": test.labels, "predicted": predicted, "confidence": confidence}).rename_axis("index"),
        REPORTS / "predictions.csv",
    )
    save_table(pd.DataFrame(counts).rename_axis("actual"), REPORTS / "confusion_matrix.csv")
    figures.save(figures.learning_curves(history), REPORTS / "learning_curves.png")
    figures.save(figures.confusion_matrix(counts), REPORTS / "confusion_matrix.png")
    figures.save(
        figures.most_confident_mistakes(test.images, test.labels, predicted, confidence), REPORTS / "mistakes.png"
    )
    print(
        f"test accuracy {report['test']['accuracy']:.2%}: "
        f"{report['test']['errors']:,} of {len(test):,} images misclassified"
    )


def checked(outputs: metrics.Probabilities) -> metrics.Probabilities:
    """Pass a model's outputs on if they are probabilities.

    Raises `InputError` if they are not: not finite, negative, or with a sum other than 1.
    """
    # The comparisons are false for NaN too.
    if not (outputs.min() >= 0 and np.abs(outputs.sum(axis=1) - 1).max() < 1e-3):
        raise InputError(
            f"{archive.MODEL}: expected probabilities with a sum of 1 for every image, found others; {RESTORE}"
        )
    return outputs


def save_json(value: Any, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_table(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, float_format="%.6f", lineterminator="\n")


if __name__ == "__main__":
    with one_line_errors(), interrupted_at_once():
        main()
