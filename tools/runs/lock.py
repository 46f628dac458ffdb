"""dvc.lock: what each stage of the last run read and made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stages import params
from stages.errors import InputError
from stages.files import read_text

PATH = Path("dvc.lock")


class Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class File(Section):
    """A file or folder as a stage read or made it."""

    path: str
    md5: str | None = None
    size: int | None = None  # bytes


class StageRun(Section):
    deps: list[File] = []
    outs: list[File] = []
    params: dict[str, dict[str, Any]] = {}  # by file


class Lock(Section):
    stages: dict[str, StageRun]

    @property
    def hashes(self) -> Mapping[str, str]:
        """The MD5 of every output, by its path."""
        return {out.path: out.md5 for stage in self.stages.values() for out in stage.outs if out.md5}

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
    return parse(read_text(path), str(path))


def parse(text: str, name: str) -> Lock:
    """Read the text of a dvc.lock.

    Raises `InputError` with `name` if it is not one.
    """
    try:
        return Lock.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not readable as YAML: {error}") from None
    except ValidationError as invalid:
        first = invalid.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(f"{name}: records no run: {where}: {first['msg']}") from None
