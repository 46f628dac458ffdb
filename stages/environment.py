"""models/environment.json: what decides a training's bits beside its inputs."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.errors import InputError
from stages.files import replacing

PATH = Path("models/environment.json")

PORTABLE = "the same on every x86-64 processor with AVX2 and FMA"

# Instruction sets for which TensorFlow has special kernels.
INSTRUCTIONS = {"avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve"}

Environment = dict[str, str]


def describe(fault: str | None) -> Environment:
    """Describe what decides the bits of a training: the packages, and with a fault of the arithmetic the processor."""
    from stages.runtime import tf  # noqa: PLC0415 - readers of the record start without TensorFlow

    packages = {
        "tensorflow": f"{tf.version.VERSION} {tf.version.GIT_VERSION}",
        "keras": version("keras"),
        "numpy": version("numpy"),
    }
    if fault is None:
        return {"bits": PORTABLE} | packages
    return {"bits": f"of this kind of processor: {fault}"} | processor() | packages


def processor() -> Environment:
    """Describe the processor and its system, without host names and user names."""
    cpu = cpuinfo()
    flags = {*cpu.get("flags", "").split(), *cpu.get("Features", "").split()}
    return {
        "processor": " ".join(cpu[name] for name in ("model name", "cpu family", "model", "CPU part") if name in cpu)
        or platform.processor(),
        "instructions": " ".join(sorted(INSTRUCTIONS & flags)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpuinfo() -> dict[str, str]:
    """Read what Linux reports about the first core. Return an empty dictionary on other systems."""
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

    Raises `InputError` with `name` if the text is anything else.
    """
    try:
        return TypeAdapter(Environment).validate_json(text)
    except ValidationError as invalid:
        raise InputError(f"{name}: expected a JSON object of texts ({invalid.errors()[0]['msg']})") from None
