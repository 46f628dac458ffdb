from pathlib import Path

import pytest

from stages import archive, model
from tests.parameters import make_params

NETWORK = make_params(model__lstm_units=[6, 4], model__dense_units=5)


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The archive of a small network with two LSTM layers."""
    path = tmp_path_factory.mktemp("serve") / "lstm.keras"
    archive.save(model.build(NETWORK.model, seed=0), path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tools.serve.inference.cache", lambda: tmp_path / "cache/models")
    monkeypatch.setattr("tools.serve.source.cache", lambda: tmp_path / "cache/models")
    return tmp_path / "cache/models"
