"""A sweep: the file that says what is changed, how candidates are found, and what chooses among them."""

import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from stages import params
from stages.errors import InputError
from stages.params import Params, Section

CANDIDATES = 100_000
SEED = "train.seed"

Number = Annotated[int | float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Value = bool | Number | str | list[int]


class Range(Section):
    """The values between two numbers."""

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        for name, (low, high) in self.model_dump().items():
            if low >= high or (name == "log_uniform" and low <= 0):
                above = " above 0" if name == "log_uniform" else ""
                raise ValueError(f"expected two numbers{above}, the lower first, found {low} and {high}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        low, high = next(iter(self.model_dump().values()))
        return low, high


class Uniform(Range):
    uniform: Annotated[list[Number], Field(min_length=2, max_length=2)]


class LogUniform(Range):
    log_uniform: Annotated[list[Number], Field(min_length=2, max_length=2)]


class Integers(Range):
    integers: Annotated[list[int], Field(min_length=2, max_length=2)]  # both ends included


class Choice(Section):
    choice: Annotated[list[Value], Field(min_length=1, max_length=1_000)]


class Grid(Section):
    grid: Annotated[list[Value], Field(min_length=1, max_length=1_000)]


Domain = Uniform | LogUniform | Integers | Choice | Grid
DOMAINS: Mapping[str, type[Domain]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "integers": Integers,
    "choice": Choice,
    "grid": Grid,
}


class EarlyStopping(Section):
    """ASHA: of the trials that reach an epoch of comparison, only the best go on."""

    grace_period: Annotated[int, Field(ge=1, le=10_000)]  # the first epoch of comparison
    reduction_factor: Annotated[int, Field(ge=2, le=100)]  # one of so many goes on, and the next epoch is so much later


class Sweep(Section):
    """The content of a sweep's file."""

    change: dict[str, Any]  # by section.name: a value, or the domain of its values
    search: Literal["grid", "random", "tpe"]
    trials: Annotated[int, Field(ge=1, le=CANDIDATES)] | None = None  # candidates of random and tpe
    search_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of random and tpe
    seeds: Annotated[int, Field(ge=1, le=1_000)] = 1  # trainings of a candidate: 0, 1, ...
    metric: Literal["validation_accuracy", "validation_loss"]
    direction: Literal["maximize", "minimize"]
    early_stopping: EarlyStopping | Literal["none"] = "none"
    cpus: Annotated[int, Field(ge=1, le=1_024)] = 1  # of a trial
    memory: Annotated[Number, Field(gt=0, le=100_000)] = 1.5  # of a trial, in GB

    @property
    def fixed(self) -> dict[str, Any]:
        """The parameters that are the same in all trials."""
        return {name: value for name, value in self.change.items() if not isinstance(value, Domain)}

    @property
    def varied(self) -> dict[str, Domain]:
        """The parameters that differ between candidates, each with its domain."""
        return {name: value for name, value in self.change.items() if isinstance(value, Domain)}


def name_of(path: Path) -> str:
    """Return the name of a sweep, which is that of its file."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", path.stem):
        raise InputError(
            f"{path}: the file's name is that of the sweep: expected at most 40 small letters, digits, - and _, the "
            f"first a letter or digit, found {path.stem!r}; rename the file"
        )
    return path.stem


def load(path: Path, base: Params) -> Sweep:
    """Read and check a sweep that changes these parameters.

    Raises `InputError` with one clause for each fault.
    """
    try:
        with path.open("rb") as file:
            content = file.read(params.LIMIT + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; `ls sweeps` lists the sweeps here") from None
    values = params.parse(content, str(path), limit=params.LIMIT)
    try:
        repr(values)
    except ValueError:
        raise _refused(path, ["it has a number of thousands of digits"]) from None
    try:
        sweep = Sweep.model_validate(values)
    except ValidationError as invalid:
        raise _refused(path, [_fault(error, Sweep) for error in invalid.errors(include_url=False)]) from None
    faults: list[str] = []
    change = {name: _domain(name, value, faults) for name, value in sweep.change.items()}
    sweep = sweep.model_copy(update={"change": change})
    faults = faults or [*_faults(sweep), *_faults_of_values(sweep, base)]
    if faults:
        raise _refused(path, faults)
    return sweep


def _refused(path: Path, faults: list[str]) -> InputError:
    more = [f"and {len(faults) - params.FAULTS:,} more faults"] if len(faults) > params.FAULTS else []
    return InputError(
        f"{path}: {'; '.join(faults[: params.FAULTS] + more)}; correct the file and run the command again"
    )


def _fault(error: Any, section: type[Section], start: str = "") -> str:
    """Say in one clause what is wrong with one value."""
    name = start + ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is unknown, expected {', '.join(section.model_fields)}"
        case "value_error":
            return f"{name.rstrip('.')}: {error['ctx']['error']}"
        case _ if name == "metric" and str(error["input"]).startswith("test"):
            return (
                f"metric: {error['input']} is of the test set, which chooses nothing; expected validation_accuracy or "
                "validation_loss"
            )
        case _:
            found = reprlib.repr(error["input"])
            return f"{name.rstrip('.') or 'the whole file'}: {error['msg']}, found {found}"


def _domain(name: str, value: Any, faults: list[str]) -> Any:
    """Read a domain; any other value is taken as it is."""
    if not isinstance(value, dict):
        return value
    kind = str(next(iter(value), ""))
    if len(value) != 1 or kind not in DOMAINS:
        faults.append(f"change.{name}: expected a value or one of {', '.join(DOMAINS)}, found {reprlib.repr(value)}")
        return value
    try:
        return DOMAINS[kind].model_validate(value)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        faults += [_fault(error, DOMAINS[kind], f"change.{name}.") for error in errors]
        return value


def _faults(sweep: Sweep) -> Iterator[str]:
    """Find what does not go together."""
    is_grid = sweep.search == "grid"
    for name, domain in sweep.varied.items():
        if isinstance(domain, Grid) != is_grid:
            expected = "grid" if is_grid else "uniform, log_uniform, integers or choice"
            found = next(iter(domain.model_dump()))
            yield f"change.{name}: expected {expected} with search: {sweep.search}, found {found}"
        if name.startswith("prepare."):
            yield (
                f"change.{name}: expected one value, since candidates are compared on the same validation images, "
                "found several"
            )
    if not is_grid and not sweep.varied:
        yield f"change: expected a parameter with a domain, since search is {sweep.search}, found none"
    combinations = math.prod(len(domain.grid) for domain in sweep.varied.values() if isinstance(domain, Grid))
    if combinations > CANDIDATES:
        yield f"change: expected at most {CANDIDATES:,} combinations of values, found {combinations:,}"
    if is_grid and sweep.trials is not None:
        yield "trials: expected none with search: grid, which tries all values"
    if not is_grid and sweep.trials is None:
        yield "trials is missing"
    if SEED in sweep.change:
        yield f"change.{SEED}: expected the number of seeds at `seeds:`, found the parameter"
    expected = "maximize" if sweep.metric == "validation_accuracy" else "minimize"
    if sweep.direction != expected:
        yield f"direction: expected {expected} for {sweep.metric}, found {sweep.direction}"


def _faults_of_values(sweep: Sweep, base: Params) -> Iterator[str]:
    """Check every value by itself, and both ends of every range, with the schema of params.yaml."""
    values = base.model_dump()
    names = [f"{section}.{name}" for section, of in values.items() for name in of]
    for name, domain in sweep.change.items():
        if name not in names:
            yield f"change.{name} is unknown in {params.PATH}, expected one of {', '.join(names)}"
            continue
        section, key = name.split(".")
        for value in some_values(domain):
            changed = {**values, section: {**values[section], key: value}}
            try:
                Params.model_validate(changed)
            except ValidationError as invalid:
                # Faults of several parameters together are reported for each candidate.
                for error in invalid.errors(include_url=False):
                    if error["loc"][:2] == (section, key):
                        yield f"change.{name}: {error['msg']}, found {reprlib.repr(error['input'])}"
    size = sweep.change.get("prepare.validation_size", base.prepare.validation_size)
    if size == 0:
        yield (
            "prepare.validation_size: expected at least 1, found 0, which validates on the test set; that set chooses "
            "nothing"
        )


def some_values(domain: Any) -> list[Any]:
    match domain:
        case Choice(choice=values) | Grid(grid=values):
            return list(values)
        case Integers(ends=ends):
            return [int(end) for end in ends]
        case Uniform(ends=ends) | LogUniform(ends=ends):
            return [float(end) for end in ends]
        case value:
            return [value]
