"""dvc.lock: what each stage of the last run read and made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from stages import params
from stages.errors import InputError
from stages.terminal import printable

PATH = Path("dvc.lock")
LIMIT = 128_000  # bytes, which are read in seconds whatever they are; the committed file has 9,000

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class File(Section):
    """A file or folder as a stage read or made it."""

    path: str
    md5: str | None = None
    size: int | None = None  # bytes


class Output(File):
    """What a stage made, which lies in a store under its MD5."""

    md5: Md5 | None = None


class StageRun(Section):
    deps: list[File] = []
    outs: list[Output] = []
    params: dict[str, dict[str, JsonValue]] = {}  # by file

    @field_validator("params")
    @classmethod
    def _can_be_shown(cls, value: dict[str, Any]) -> dict[str, Any]:
        json.dumps(value)  # a number of thousands of digits raises ValueError
        return value


class Lock(Section):
    stages: dict[str, StageRun]

    @property
    def hashes(self) -> Mapping[str, str]:
        """The MD5 of every output, by its path."""
        return {out.path: out.md5 for stage in self.stages.values() for out in stage.outs if out.md5}

    def differing(self, other: "Lock") -> list[str]:
        """List the outputs of which another run has other bytes, or none."""
        return [path for path, md5 in self.hashes.items() if md5 != other.hashes.get(path)]

    @property
    def deps(self) -> Mapping[str, str]:
        """The MD5 of every file that a stage read, by its path."""
        return {dep.path: dep.md5 for stage in self.stages.values() for dep in stage.deps if dep.md5}

    @property
    def code(self) -> Mapping[str, str]:
        """The MD5 of every Python file that a stage depends on, by its path."""
        return {path: md5 for path, md5 in self.deps.items() if path.endswith(".py")}

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that the stages ran with, section by section."""
        sections: dict[str, Any] = {}
        for stage in self.stages.values():
            sections |= stage.params.get(str(params.PATH), {})
        return sections


def load(path: Path = PATH) -> Lock:
    """Read a dvc.lock.

    Raises `InputError` if it is missing or is not one.
    """
    try:
        with path.open("rb") as file:
            return _parse(file.read(LIMIT + 1), str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None


def parse(text: str, name: str) -> Lock:
    """Read the text of a dvc.lock, which may come from anyone.

    Raises `InputError` with `name` if it is not one.
    """
    return _parse(text.encode(), name)


def _parse(content: bytes, name: str) -> Lock:
    try:
        return Lock.model_validate(params.parse(content, name, limit=LIMIT))
    except ValidationError as invalid:
        first = invalid.errors(include_input=False, include_url=False)[0]
        where = printable(".".join(map(str, first["loc"]))) or "the whole file"
        raise InputError(f"{name}: records no run: {where}: {first['msg']}") from None
