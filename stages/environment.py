"""What decides about the bits of a training beside its inputs: the processor and the packages that compute."""

import platform
from importlib.metadata import version
from pathlib import Path

from stages.runtime import tf

RECORD = Path("models/environment.json")

# Sets of instructions for which TensorFlow's kernels have code of their own.
INSTRUCTIONS = {"avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve"}


def environment() -> dict[str, str]:
    """Describe processor and packages, without times and names of hosts or people."""
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
