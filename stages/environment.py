"""models/environment.json: what decides about the bits of a training beside its inputs: processor and packages."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.errors import InputError
from stages.files import replacing

PATH = Path("models/environment.json")

# Sets of instructions for which TensorFlow's kernels have code of their own.
INSTRUCTIONS = {"avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve"}

Environment = dict[str, str]


def describe() -> Environment:
    """Describe processor and packages, without times and names of hosts or people."""
    from stages.runtime import tf  # noqa: PLC0415 - readers of the record start without TensorFlow

    cpu = cpuinfo()
    flags = {*cpu.get("flags", "").split(), *cpu.get("Features", "").split()}
    return {
        "processor": " ".join(cpu[name] for name in ("model name", "cpu family", "model", "CPU part") if name in cpu)
        or platform.processor(),
        "instructions": " ".join(sorted(INSTRUCTIONS & flags)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "tensorflow": f"{tf.version.VERSION} {tf.version.GIT_VERSION}",
        "keras": version("keras"),
        "numpy": version("numpy"),
    }


def cpuinfo() -> dict[str, str]:
    """Read what Linux tells of the first core; empty elsewhere."""
    try:
        first, *_ = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    except FileNotFoundError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def save(environment: Environment, path: Path = PATH) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def parse(text: str, name: str) -> Environment:
    """Read what `save` wrote.

    Raises `InputError` with `name` if it is anything else.
    """
    try:
        return TypeAdapter(Environment).validate_json(text)
    except ValidationError as invalid:
        raise InputError(f"{name}: expected names and texts in JSON ({invalid.errors()[0]['msg']})") from None
