import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from stages import archive, dataset, evaluate, model
from stages.errors import InputError
from stages.history import HISTORY, Epoch, save_history
from stages.runtime import keras
from tests.conftest import ROOT, make_params, random_digits


@pytest.fixture
def evaluated(in_empty_folder: Path) -> Path:
    """A folder in which an untrained model has been evaluated on random images."""
    for path, count in ((dataset.TRAIN, 30), (dataset.VALIDATION, 20), (dataset.TEST, 40)):
        dataset.save(random_digits(count), path)
    params = make_params(model__lstm_units=[4], model__dense_units=5)
    archive.save(model.build(params.model, seed=0), archive.MODEL)
    save_history([Epoch(1, 0.1, 2.3, 0.1, 2.3, 0.001)], HISTORY)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    evaluate.main()
    return in_empty_folder


def test_the_reports_agree_with_each_other_and_the_model(evaluated: Path) -> None:
    test = dataset.load(dataset.TEST)
    probabilities = archive.load(archive.MODEL).predict(test.images, verbose=0)
    metrics = json.loads((evaluated / "reports/metrics.json").read_text())
    predictions = pd.read_csv("reports/predictions.csv")
    matrix = pd.read_csv("reports/confusion_matrix.csv", index_col="actual")

    assert list(predictions.columns) == ["index", "actual", "predicted", "confidence"]
    assert predictions["index"].tolist() == list(range(40))
    np.testing.assert_array_equal(predictions["actual"], test.labels)
    np.testing.assert_array_equal(predictions["predicted"], probabilities.argmax(axis=1))
    np.testing.assert_allclose(predictions["confidence"], probabilities.max(axis=1), atol=1e-6)

    expected = confusion_matrix(test.labels, probabilities.argmax(axis=1), labels=list(range(10)))
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.index.tolist() == list(range(10))
    assert matrix.columns.tolist() == [str(digit) for digit in range(10)]
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(test.labels, minlength=10))

    assert metrics["test"]["accuracy"] == round(np.trace(expected) / 40, 6)
    assert metrics["test"]["errors"] == 40 - np.trace(expected)
    assert metrics["model"] == {
        "parameters": archive.load(archive.MODEL).count_params(),
        "bytes": (evaluated / "models/lstm.keras").stat().st_size,
    }
    assert set(metrics) == {"train", "validation", "test", "model"}


def test_the_same_model_gives_the_same_reports(evaluated: Path) -> None:
    def reports() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (evaluated / "reports").iterdir()}

    first = reports()
    assert set(first) == {
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "history.csv",
        "learning_curves.png",
        "metrics.json",
        "mistakes.png",
        "predictions.csv",
    }
    evaluate.main()
    assert reports() == first


def test_a_model_of_other_layers_is_measured_too(evaluated: Path) -> None:
    flat = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    archive.save(flat, archive.MODEL)
    evaluate.main()
    predicted = flat.predict(dataset.load(dataset.TEST).images, verbose=0).argmax(axis=1)
    assert pd.read_csv(evaluated / "reports/predictions.csv")["predicted"].tolist() == predicted.tolist()


@pytest.mark.parametrize(
    "spoil", [lambda weights: weights * np.nan, lambda weights: weights + 1], ids=["not a number", "no probabilities"]
)
def test_a_model_that_gives_no_probabilities_is_refused(spoil: Any, evaluated: Path) -> None:
    before = (evaluated / "reports/metrics.json").read_bytes()
    linear = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    linear.set_weights([spoil(weights) for weights in linear.get_weights()])
    archive.save(linear, archive.MODEL)
    with pytest.raises(InputError, match=r"models/lstm\.keras: expected probabilities with a sum of 1"):
        evaluate.main()
    assert (evaluated / "reports/metrics.json").read_bytes() == before
