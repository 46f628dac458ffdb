"""models/lstm.keras and the three sets -> reports/: metrics, predictions, confusion matrix, pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from stages import archive, dataset, figures, metrics
from stages.errors import one_line_errors
from stages.files import replacing
from stages.history import HISTORY, load_history
from stages.params import load_params
from stages.runtime import keras

REPORTS = Path("reports")
BATCH = 500  # images; nothing but speed and memory depends on it


def main() -> None:
    load_params()
    model = archive.load(archive.MODEL)
    history = load_history(HISTORY)
    train, validation, test = (dataset.load(path) for path in (dataset.TRAIN, dataset.VALIDATION, dataset.TEST))

    probabilities = predict(model, test)
    report = {
        "train": metrics.accuracy_and_loss(train.labels, predict(model, train)),
        "validation": metrics.accuracy_and_loss(validation.labels, predict(model, validation)),
        "test": metrics.full_report(test.labels, probabilities),
        "model": {"parameters": model.count_params(), "bytes": archive.MODEL.stat().st_size},
    }
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    counts = confusion_matrix(test.labels, predicted, labels=list(metrics.DIGITS))

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


def predict(model: keras.Model, images: dataset.Dataset) -> metrics.Probabilities:
    return np.asarray(model.predict(images.images, batch_size=BATCH, verbose=0), np.float32)


def save_json(value: Any, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_table(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, float_format="%.6f", lineterminator="\n")


if __name__ == "__main__":
    with one_line_errors():
        main()
