"""The sections of params.yaml as typed, checked values."""

import reprlib
import shlex
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent

from stages.errors import ROOT, InputError, remedied

PATH = Path("params.yaml")
LIMIT = 64_000  # bytes; the committed file has 2,000
FAULTS = 10  # in one message

Count = Annotated[int, Field(ge=1, le=10_000)]
Units = Annotated[int, Field(ge=1, le=1_024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


# DVC has removed a stage's outputs before the stage can find a fault.
LAST_RUN = "correct it, or get the last committed run back: `git restore params.yaml dvc.lock reports && dvc checkout`"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Prepare(Section):
    dataset: Literal["mnist", "digits"]
    validation_size: Annotated[int, Field(ge=0, lt=60_000)]
    own_repeats: Annotated[int, Field(ge=0, le=1_000)]
    seed: Seed


class Model(Section):
    lstm_units: Annotated[list[Units], Field(min_length=1, max_length=8)]
    activation: Literal["relu", "tanh", "sigmoid", "elu", "softplus", "softsign"]
    dropout: Annotated[float, Field(ge=0, le=0.95)]
    dense_units: Units


class Train(Section):
    epochs: Count
    batch_size: Count
    optimizer: Literal["adam", "adamw", "muon", "nadam", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    warmup: Share
    decay: Share
    ema: Fraction
    precision: Literal["float32", "bfloat16"]
    seed: Seed

    @model_validator(mode="after")
    def _reaches_its_peak(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup and decay must be at most 1 together, found {self.warmup} and {self.decay}")
        return self


class Augment(Section):
    shift: Annotated[float, Field(ge=0, le=14)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    shear: Annotated[float, Field(ge=0, le=45)]
    scale: Fraction
    elastic: Annotated[float, Field(ge=0, le=14)]


class Params(Section):
    """The whole of params.yaml: a field for each section, by its name there."""

    prepare: Prepare
    model: Model
    train: Train
    augment: Augment


def load_params(path: Path = PATH) -> Params:
    """Read and check the whole file, whichever section the caller wants.

    Raises `InputError` with one clause for each unknown, missing, mistyped or out-of-range parameter.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: not found{_elsewhere(path)}") from None
    with remedied(LAST_RUN):
        try:
            return Params.model_validate(parse(content, str(path), limit=LIMIT))
        except ValidationError as invalid:
            faults = [_fault(error) for error in invalid.errors(include_url=False)]
            more = [f"and {len(faults) - FAULTS:,} more faults"] if len(faults) > FAULTS else []
            raise InputError(f"{path}: {'; '.join(faults[:FAULTS] + more)}") from None


def _elsewhere(path: Path) -> str:
    """Say what helps where the file is missing: another folder, or git."""
    if (ROOT / PATH).exists() and Path.cwd() != ROOT:
        return f" in {Path.cwd()}; run the command in the repository's folder: `cd {shlex.quote(str(ROOT))}`"
    return f"; restore it with `git restore {path}`"


def parse(content: bytes, name: str, *, limit: int) -> Any:
    """Parse YAML that anyone may have written, such as a file of another commit, to the values that DVC sees.

    Raises `InputError` for what is larger than `limit` bytes, is not readable or has an alias.
    """
    if len(content) > limit:
        raise InputError(f"{name}: expected at most {limit:,} bytes, found more")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    try:
        with warnings.catch_warnings(action="ignore"):
            return yaml.load(content.decode())
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - ruamel.yaml raises errors of many kinds for values that it cannot read
        raise InputError(f"{name}: not readable as YAML: {_reason(error)}") from None


class _Composer(Composer):
    """Refuse aliases: a few lines of them can stand for millions of values, or for a value within itself."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.parser.check_event(AliasEvent):
            alias = self.parser.get_event()
            raise ComposerError(
                None, None, f"expected values, found the alias *{alias.anchor}: write its value out", alias.start_mark
            )
        return super().compose_node(parent, index)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        reason = "nested too deeply"
    elif isinstance(error, MarkedYAMLError) and error.problem_mark:
        reason = f"line {error.problem_mark.line + 1}: {error.problem}"
    else:
        reason = str(error)
    return textwrap.shorten(reason, 300, placeholder="...")


def _fault(error: Any) -> str:
    """Say in one clause what is wrong with one parameter."""
    name = ".".join(_shown(part).strip("'") for part in error["loc"]) or "the whole file"
    found = _shown(error["input"])
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            *above, _ = error["loc"]
            section: Any = Params.model_fields[above[0]].annotation if above else Params
            return f"{name} is unknown, expected {', '.join(section.model_fields)}"
        case "value_error":
            return f"{name}: {error['ctx']['error']}"
        case "model_type":
            return f"{name} must be a mapping of names to values, found {found}"
        case _:
            return f"{name}: {error['msg']}, found {found}"


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:
        return "a number of thousands of digits"
