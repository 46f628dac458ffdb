"""Training that was interrupted goes on after its last finished epoch, and ends with the same bytes.

A checkpoint holds what decides about the epochs to come: the variables of network and optimizer, and the history.
(Order, augmentation and dropout follow from the seed and the number of the epoch and step.) Its name is a hash of all
that training reads, so that it belongs to exactly these inputs. It lies beside the temporary files that DVC keeps in
the repository, where it survives the folder of an experiment.
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

# The code of a training, which are its `deps` in dvc.yaml: a checkpoint belongs to these files as they are.
CODE = (
    "archive",
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
    "train",
)


def key(params: Params, training: Dataset, validation: Dataset, environment: Environment) -> str:
    """Hash everything that decides about a training: parameters, environment, code and data."""
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
    """The checkpoint of one training, held by one process at a time.

    Raises `InputError` where another process holds it. The lock is the operating system's and ends with its holder.
    """

    def __init__(self, key: str) -> None:
        # DVC names the repository itself where it runs an experiment in a folder of its own.
        self.path = Path(os.environ.get("DVC_ROOT", ".")) / FOLDER / f"{key}.npz"
        self._lock_path = self.path.with_suffix(".lock")

    def __enter__(self) -> "Checkpoint":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        self._lock.truncate(0)
        print(os.getpid(), file=self._lock, flush=True)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()

    def _locked(self) -> TextIO:
        while True:
            lock = self._lock_path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last holder may have removed the file after it was opened here.
                if os.path.samestat(os.fstat(lock.fileno()), self._lock_path.stat()):
                    return lock
            except FileNotFoundError:
                pass
            except BlockingIOError:
                with lock:
                    lock.seek(0)
                    holder = lock.read().strip()
                raise InputError(
                    f"the same training is under way in process {holder}: wait until it ends, or end it with "
                    f"`kill {holder}`, and run `dvc repro` again"
                ) from None
            lock.close()

    def restore(self, state: Sequence[keras.Variable]) -> list[Epoch]:
        """Set variables to what was saved last, and return the epochs until then: none where nothing was saved."""
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
                print(f"training afresh: the checkpoints in {self.path.parent} are of other inputs ({others})")
            return []
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes NumPy raise
            print(f"training afresh: the checkpoint {self.path} is damaged ({error})")
            return []
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        print(f"going on after epoch {len(history)}, from {self.path}")
        return history

    def save(self, state: Iterable[keras.Variable], history: Sequence[Epoch]) -> None:
        """Keep variables and epochs for a process that goes on from here."""
        arrays = {str(number): np.asarray(variable) for number, variable in enumerate(state)}
        with replacing(self.path) as temporary:
            np.savez(temporary, allow_pickle=False, history=np.array(history, np.float64), **arrays)

    def remove(self) -> None:
        """Leave nothing behind, once training has ended."""
        self.path.unlink(missing_ok=True)
