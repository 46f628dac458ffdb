"""The sections of params.yaml as typed, checked values."""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.errors import InputError

PATH = Path("params.yaml")

Count = Annotated[int, Field(ge=1, le=10_000)]
Units = Annotated[int, Field(ge=1, le=1_024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Prepare(Section):
    dataset: Literal["mnist", "digits"]
    validation_size: Annotated[int, Field(ge=0, lt=60_000)]
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


class _Loader(yaml.SafeLoader):
    """Numbers as YAML 1.2 and so DVC read them: 1e-3 is one, 1:30 is not. 010 (eight or ten?) and 0o10 are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class's own table, copied without its numbers
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), "-+0123456789"
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    "-+.0123456789",
)


def load_params(path: Path = PATH) -> Params:
    """Read and check the whole file, whichever section the caller wants.

    Raises `InputError` with one clause for each unknown, missing, mistyped or out-of-range parameter.
    """
    try:
        # The loader is a SafeLoader: it makes plain values and nothing else.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    except FileNotFoundError:
        raise InputError(f"{path}: not found; bring it back with `git restore {path}`") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as invalid:
        faults = [_fault(error) for error in invalid.errors(include_url=False)]
        raise InputError(f"{path}: {'; '.join(faults)}") from None


def _fault(error: Any) -> str:
    """Say in one clause what is wrong with one parameter."""
    name = ".".join(str(part) for part in error["loc"]) or "the whole file"
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
