"""What became of each trial of a sweep at a commit: kept in DVC's temporary folder after each trial that ends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from stages.files import replacing
from tools import ROOT

FOLDER = ROOT / ".dvc/tmp/sweeps"

Key = tuple[int, int]  # number of the candidate, seed


def ending_of(key: Key) -> str:
    """Say how the names of a trial's experiment and of its files end."""
    number, seed = key
    return f"{number}-s{seed}"


def name_of(sweep: str, key: Key) -> str:
    """Name a trial's experiment."""
    return f"{sweep}-{ending_of(key)}"


class Outcome(BaseModel):
    """What became of a trial."""

    model_config = ConfigDict(frozen=True, strict=True)

    ended: Literal["finished", "stopped", "failed", ""] = ""  # empty: not ended, and to be run again
    changes: dict[str, Any]  # of the candidate, by section.name
    history: list[dict[str, float]] = []  # a row an epoch
    reason: str = ""  # of a failure, or why the trial has not ended
    # Start and end of its runs by this clone, in seconds since 1970; those that ended with a killed driver are missing.
    spans: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float | None:
        """Return how long its runs by this clone took, or None if others ran it."""
        return sum(end - start for start, end in self.spans) if self.spans else None


def path_of(sweep: str, commit: str) -> Path:
    return FOLDER / f"{sweep}-{commit[:10]}.json"


def load(path: Path) -> dict[Key, Outcome]:
    """Read a record. An unreadable record counts as an empty one: the remote has all finished trials."""
    try:
        outcomes = TypeAdapter(dict[str, Outcome]).validate_json(path.read_bytes())
        return {_key(name): outcome for name, outcome in outcomes.items()}
    except (OSError, ValueError):  # pydantic's errors are ValueErrors
        return {}


def save(outcomes: Mapping[Key, Outcome], path: Path) -> None:
    texts = {ending_of(key): outcome.model_dump() for key, outcome in sorted(outcomes.items())}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(texts), encoding="utf-8")


def _key(name: str) -> Key:
    number, _, seed = name.partition("-s")
    return int(number), int(seed)
