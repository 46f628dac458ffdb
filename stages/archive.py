"""models/lstm.keras: saved with the same bytes each time, and loaded as untrusted data."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import dataset
from stages.errors import RESTORE, InputError
from stages.files import replacing

if TYPE_CHECKING:
    from stages.runtime import keras

PATH = Path("models/lstm.keras")


def save(model: "keras.Model", path: Path = PATH) -> None:
    """Save a model without the parts that differ between saves: zip times, the date, and memory addresses."""
    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(members["metadata.json"])
        del metadata["date_saved"]
        members["metadata.json"] = json.dumps(metadata).encode()
        members["config.json"] = json.dumps(_without_addresses(json.loads(members["config.json"]))).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                # A new ZipInfo has the date 1980-01-01.
                archive.writestr(zipfile.ZipInfo(name), content)


def _without_addresses(config: Any) -> Any:
    """Drop every `shared_object_id`, which Keras takes from `id()`."""
    match config:
        case dict():
            return {key: _without_addresses(value) for key, value in config.items() if key != "shared_object_id"}
        case list():
            return [_without_addresses(value) for value in config]
        case _:
            return config


def load(path: Path = PATH) -> "keras.Model":
    """Load a model whose configuration cannot run code (Keras' safe mode).

    Raises `InputError` if the file is missing, damaged, unsafe, or does not map (n, 28, 28) pixels to (n, 10).
    """
    from stages.runtime import keras  # noqa: PLC0415 - modules that only need the path start without TensorFlow

    if not path.exists():
        raise InputError(f"{path}: not found; make it with `dvc repro train` or fetch it with `dvc pull`")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        found = f"{model.input_shape} to {model.output_shape}"
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged or malicious file makes Keras raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: damaged or unsafe, Keras refuses it ({reason}); {RESTORE}") from None
    expected = f"{(None, dataset.SIDE, dataset.SIDE)} to {(None, dataset.CLASSES)}"
    if found != expected:
        raise InputError(f"{path}: expected a model from {expected}, found one from {found}; {RESTORE}")
    return model
