import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from stages import archive, dataset, evaluate, history, model, predictions, report
from stages.errors import InputError
from stages.evaluate import measure_test
from stages.history import Epoch
from stages.report import Digit
from stages.runtime import keras
from tests.images import named_digits, random_digits
from tests.parameters import make_params
from tools import ROOT


@pytest.fixture
def evaluated(in_empty_folder: Path) -> Path:
    """A folder in which an untrained model has been evaluated on random images."""
    for path, count in ((dataset.TRAIN, 30), (dataset.VALIDATION, 20), (dataset.TEST, 40)):
        dataset.save(random_digits(count), path)
    dataset.save(named_digits(0), dataset.OWN_TEST)
    params = make_params(model__lstm_units=[4], model__dense_units=5)
    archive.save(model.build(params.model, seed=0))
    history.save([Epoch(1, 0.1, 2.3, 0.1, 2.3, 0.001)])
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    evaluate.main()
    return in_empty_folder


def test_the_reports_agree_with_each_other_and_the_model(evaluated: Path) -> None:
    test = dataset.load(dataset.TEST)
    probabilities = archive.load().predict(test.images, verbose=0)
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
        "parameters": archive.load().count_params(),
        "bytes": (evaluated / "models/lstm.keras").stat().st_size,
    }
    assert set(metrics) == {"train", "validation", "test", "model"}
    assert (evaluated / "reports/own_predictions.csv").read_text() == "picture,actual,predicted,confidence\n"


def test_own_test_pictures_are_reported_apart(evaluated: Path) -> None:
    without = {path.name: path.read_bytes() for path in (evaluated / "reports").iterdir()}
    own = named_digits(25)
    dataset.save(own, dataset.OWN_TEST)
    evaluate.main()
    probabilities = archive.load().predict(own.images, verbose=0)
    errors = int((probabilities.argmax(axis=1) != own.labels).sum())
    found = report.load()
    assert found.own_test
    assert (found.own_test.images, found.own_test.errors) == (25, errors)
    assert found.own_test.accuracy == round(1 - errors / 25, 6)
    table = predictions.parse_own(predictions.OWN_PATH.read_text(), "own")
    assert list(table.columns) == ["picture", "actual", "predicted", "confidence"]
    assert table["picture"].tolist() == own.names.tolist()
    np.testing.assert_array_equal(table["actual"], own.labels)
    np.testing.assert_array_equal(table["predicted"], probabilities.argmax(axis=1))

    # All that is said of the other images stays.
    (evaluated / "reports/own_predictions.csv").write_bytes(without["own_predictions.csv"])
    metrics = json.loads((evaluated / "reports/metrics.json").read_text())
    del metrics["own_test"]
    assert metrics == json.loads(without["metrics.json"])
    later = {path.name: path.read_bytes() for path in (evaluated / "reports").iterdir()}
    assert later | {"metrics.json": b""} == without | {"metrics.json": b""}


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
        "own_predictions.csv",
        "predictions.csv",
    }
    evaluate.main()
    assert reports() == first


def test_a_model_of_other_layers_is_measured_too(evaluated: Path) -> None:
    flat = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    archive.save(flat)
    evaluate.main()
    predicted = flat.predict(dataset.load(dataset.TEST).images, verbose=0).argmax(axis=1)
    assert pd.read_csv(evaluated / "reports/predictions.csv")["predicted"].tolist() == predicted.tolist()


@pytest.mark.parametrize(
    "spoil", [lambda weights: weights * np.nan, lambda weights: weights + 1], ids=["not a number", "no probabilities"]
)
def test_a_model_whose_outputs_are_not_probabilities_is_refused(spoil: Any, evaluated: Path) -> None:
    before = (evaluated / "reports/metrics.json").read_bytes()
    linear = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    linear.set_weights([spoil(weights) for weights in linear.get_weights()])
    archive.save(linear)
    with pytest.raises(InputError, match=r"models/lstm\.keras: expected probabilities with a sum of 1"):
        evaluate.main()
    assert (evaluated / "reports/metrics.json").read_bytes() == before


# Metrics of a test set


def certain(predicted: list[int]) -> NDArray[np.float32]:
    """Probabilities of 1 for these predictions."""
    return np.eye(10, dtype=np.float32)[predicted]


def labels(*digits: int) -> NDArray[np.uint8]:
    return np.array(digits, np.uint8)


def test_the_metrics_of_a_test_set_have_the_values_computed_by_hand() -> None:
    # Actual 0 0 0 1 1 2, predicted 0 0 1 1 1 0; 3-9 do not occur.
    report = measure_test(labels(0, 0, 0, 1, 1, 2), certain([0, 0, 1, 1, 1, 0]))
    assert report.accuracy == pytest.approx(4 / 6, abs=1e-6)
    assert report.errors == 2
    assert report.per_class
    zero, one, two = report.per_class[:3]
    assert zero == Digit(digit=0, images=3, precision=0.666667, recall=0.666667, f1=0.666667)
    assert one == Digit(digit=1, images=2, precision=0.666667, recall=1.0, f1=0.8)
    assert two == Digit(digit=2, images=1, precision=0.0, recall=0.0, f1=0.0)
    assert report.precision == pytest.approx((2 / 3 + 2 / 3) / 10, abs=1e-6)
    assert report.recall == pytest.approx((2 / 3 + 1) / 10, abs=1e-6)
    assert report.f1 == pytest.approx((2 / 3 + 0.8) / 10, abs=1e-6)
    assert report.calibration_error == pytest.approx(2 / 6, abs=1e-6)


def test_a_perfect_model_has_perfect_metrics() -> None:
    digits = labels(*range(10), *range(10))
    report = measure_test(digits, certain(list(digits)))
    assert (report.accuracy, report.errors, report.calibration_error) == (1, 0, 0)
    assert (report.precision, report.recall, report.f1) == (1, 1, 1)
