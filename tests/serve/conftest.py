import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import archive, model
from tests.parameters import make_params
from tests.serve.running import Client, in_thread
from tools.serve.collect import Collection
from tools.serve.serving import Serving

NETWORK = make_params(model__lstm_units=[6, 4], model__dense_units=5)


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The archive of a small network with two LSTM layers."""
    return archive_of(0, tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The archive of such a network with other weights."""
    return archive_of(1, tmp_path_factory.mktemp("serve"))


def archive_of(seed: int, folder: Path) -> bytes:
    archive.save(model.build(NETWORK.model, seed=seed), folder / "lstm.keras")
    return (folder / "lstm.keras").read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder of the test's own."""
    monkeypatch.setattr("tools.serve.inference.cache", lambda: tmp_path / "cache/models")
    monkeypatch.setattr("tools.serve.source.cache", lambda: tmp_path / "cache/models")
    return tmp_path / "cache/models"


def png(size: tuple[int, int] = (80, 80), kind: str = "PNG") -> bytes:
    """A picture of a 1."""
    image = Image.new("L", size, 255)
    image.paste(0, (size[0] // 2 - size[0] // 20, size[1] // 5, size[0] // 2 + size[0] // 20, size[1] * 4 // 5))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def picture() -> bytes:
    return png()


@pytest.fixture(scope="session")
def blank() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((60, 60), 255, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def workspace(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a model; the path of the model."""
    for module in ("source", "serving"):
        monkeypatch.setattr(f"tools.serve.{module}.ROOT", tmp_path)
    path = tmp_path / archive.PATH
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.fixture
def serving(workspace: Path) -> Serving:
    assert workspace.exists()
    return Serving(None)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path / "collected")


@pytest.fixture
def client(serving: Serving, collection: Collection) -> Iterator[Client]:
    """A client of a server that follows the workspace's model, and saves pictures."""
    with in_thread(serving, collection) as client:
        yield client
