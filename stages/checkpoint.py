"""Checkpoints: an interrupted training continues after its last finished epoch, and ends with the same bytes.

A checkpoint holds the state that later epochs depend on: the variables of network and optimizer, and the history.
(Order, augmentation and dropout depend only on the seed and the number of the epoch and step.) The name of a checkpoint
is a hash of all inputs of the training, so a checkpoint is used with exactly these inputs. Checkpoints lie in the
repository's folder for DVC's temporary files. There they survive the temporary folder of an experiment.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np

from stages.dataset import Dataset
from stages.environment import Environment
from stages.errors import InputError
from stages.files import load_arrays, replacing
from stages.history import Epoch
from stages.params import Params
from stages.runtime import keras

FOLDER = Path(".dvc/tmp/checkpoints")

# The modules that training depends on, as in its `deps` in dvc.yaml. A checkpoint is valid for their exact content.
CODE = (
    "__init__",
    "archive",
    "arithmetic",
    "augment",
    "checkpoint",
    "csv_table",
    "dataset",
    "environment",
    "errors",
    "fast",
    "files",
    "history",
    "metrics",
    "model",
    "params",
    "progress",
    "runtime",
    "terminal",
    "train",
)


def key(params: Params, training: Dataset, validation: Dataset, environment: Environment) -> str:
    """Hash all inputs of a training: parameters, environment, code and data."""
    digest = hashlib.sha256()
    for part in _inputs(params, training, validation, environment):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


def _inputs(
    params: Params, training: Dataset, validation: Dataset, environment: Environment
) -> Iterator[bytes | memoryview]:
    yield params.model_dump_json(include={"model", "train", "augment"}).encode()
    yield json.dumps(environment).encode()
    for name in CODE:
        yield Path(__file__).with_name(f"{name}.py").read_bytes()
    for part in (training, validation):
        yield np.ascontiguousarray(part.images).data.cast("B")
        yield np.ascontiguousarray(part.labels).data


class Checkpoint:
    """The checkpoint of one training, locked by one process at a time.

    Raises `InputError` if another process holds the lock. The operating system releases the lock when its process ends.
    Where locks are not supported, as on some network disks, a second training of the same inputs is not noticed.
    """

    def __init__(self, key: str) -> None:
        # If DVC runs an experiment in a temporary folder, DVC_ROOT names the repository.
        self.path = Path(os.environ.get("DVC_ROOT", ".")) / FOLDER / f"{key}.npz"
        self._lock_path = self.path.with_suffix(".lock")

    def __enter__(self) -> "Checkpoint":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        self._lock.truncate(0)
        print(f"{os.getpid()} on {os.uname().nodename}", file=self._lock, flush=True)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()

    def _locked(self) -> TextIO:
        while True:
            lock = self._lock_path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The last holder may have removed the file after this process opened it.
                if os.path.samestat(os.fstat(lock.fileno()), self._lock_path.stat()):
                    return lock
            except FileNotFoundError:
                pass
            except BlockingIOError:
                with lock:
                    lock.seek(0)
                    holder = lock.read().strip()
                raise InputError(
                    f"the same training already runs in process {holder}: wait until it ends, or end it there with "
                    f"`kill {holder.partition(' ')[0]}`, and run `dvc repro` again"
                ) from None
            except OSError as error:
                print(
                    f"note: {lock.name} cannot be locked ({error.strerror}): start the training only once", flush=True
                )
                return lock
            lock.close()

    def restore(self, state: Sequence[keras.Variable]) -> list[Epoch]:
        """Restore variables from the checkpoint, and return its epochs: none if there is no usable checkpoint."""
        names = [str(number) for number in range(len(state))]
        try:
            rows, *values = load_arrays(self.path, "history", *names)
            history = [Epoch(int(number), *figures) for number, *figures in rows.tolist()]
            for variable, value in zip(state, values, strict=True):
                if (value.shape, value.dtype) != (tuple(variable.shape), np.dtype(variable.dtype)):
                    raise ValueError(f"{value.dtype} of shape {value.shape} for {variable.path}")
        except MemoryError:
            raise
        except FileNotFoundError:
            others = len(list(self.path.parent.glob("[!.]*.npz")))
            if others:
                print(f"starting at epoch 1: the checkpoints in {self.path.parent} have other inputs ({others})")
            return []
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes NumPy raise
            print(f"starting at epoch 1: the checkpoint {self.path} is damaged ({error})")
            return []
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        print(f"continuing after epoch {len(history)}, from {self.path}")
        return history

    def save(self, state: Iterable[keras.Variable], history: Sequence[Epoch]) -> None:
        """Save variables and epochs, so that a later process can continue the training."""
        arrays = {str(number): np.asarray(variable) for number, variable in enumerate(state)}
        with replacing(self.path) as temporary:
            np.savez(temporary, allow_pickle=False, history=np.array(history, np.float64), **arrays)

    def remove(self) -> None:
        """Remove the checkpoint of a finished training."""
        self.path.unlink(missing_ok=True)
