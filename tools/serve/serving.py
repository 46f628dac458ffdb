"""The model that is served: followed while it changes, and replaced only by one that works."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from stages import archive
from stages.dataset import SIDE
from tools import ROOT
from tools.serve import source
from tools.serve.inference import Predictor, make_predictor
from tools.serve.source import Source


@dataclass(frozen=True)
class Loaded:
    source: Source
    predict: Predictor


class Serving:
    """Holds the loaded model. A request takes `loaded` once, so a change-over disturbs no request."""

    def __init__(self, name: str | None) -> None:
        """Load the workspace's model, or that of a revision.

        Raises `InputError` if that fails.
        """
        self.name = name
        self.fault: str | None = None  # why the newest model is not the one that is loaded
        self.seen = self.state()
        self.loaded = self.load()

    def load(self) -> Loaded:
        found = source.fetch(self.name) if self.name else source.workspace()
        predict = make_predictor(found.content, found.name)
        predict(np.zeros((1, SIDE, SIDE), np.float32))  # raises `InputError` if it gives no probabilities
        return Loaded(found, predict)

    def refresh(self) -> None:
        """Load the model again if something changed. If that fails, keep the loaded one and note why."""
        try:
            seen = self.state()
            if seen == self.seen and self.fault is None:
                return
            loaded = self.load()
        except Exception as error:  # noqa: BLE001 - whatever happens, the loaded model goes on
            fault = " ".join(str(error).split()) or type(error).__name__
            if fault != self.fault:
                print(f"{self.loaded.source} stays: {fault}", file=sys.stderr, flush=True)
            self.fault = fault
            return
        self.seen, self.fault = seen, None
        if loaded.source != self.loaded.source:
            self.loaded = loaded
            print(f"{loaded.source} is served from here on", file=sys.stderr, flush=True)

    def state(self) -> object:
        """Return what differs whenever the model may have changed: the file's times, or all of git's references."""
        if self.name is None:
            try:
                status = (ROOT / archive.PATH).stat()
            except FileNotFoundError:
                return None
            return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
        command = ["git", "show-ref", "--head"]  # the user's own git
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout  # noqa: S603
