import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from stages import archive, dataset, evaluate, model
from stages.dataset import Dataset
from stages.history import HISTORY, Epoch, save_history
from tests.conftest import ROOT, make_params


@pytest.fixture
def evaluated(in_empty_folder: Path) -> Path:
    """A folder in which an untrained model has been evaluated on random images."""
    rng = np.random.default_rng(0)
    for path, count in ((dataset.TRAIN, 30), (dataset.VALIDATION, 20), (dataset.TEST, 40)):
        images = Dataset(rng.random((count, 28, 28), np.float32), rng.integers(0, 10, count).astype(np.uint8))
        dataset.save(images, path)
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
