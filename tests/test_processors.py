"""The same bits on processors with other instruction sets, with any number of cores, and whatever the shell sets."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stages import archive, environment, evaluate, prepare, train
from stages.errors import InputError
from tests.parameters import SMALL, write_params
from tests.processors import __main__ as compare
from tools import ROOT

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the arithmetic is defined for x86-64")

PARAMETERS = SMALL | {
    "model__lstm_units": [16, 16],
    "train__epochs": 2,
    "train__batch_size": 128,
    "augment__rotation": 10,
    "augment__elastic": 1,
}

# Each takes other kernels where it is heeded.
SHELL = {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "ONEDNN_MAX_CPU_ISA": "AVX",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "OMP_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
    "OPENBLAS_CORETYPE": "Haswell",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
}

# runtime.py removes a user's cap, so this one is set after it. oneDNN reads it with the first product.
STAGES = """
import os, sys
cap, cores, *names = sys.argv[1:]
if cores:
    os.cpu_count = lambda: int(cores)
from stages import runtime
if cap:
    os.environ["ONEDNN_MAX_CPU_ISA"] = cap
from stages import evaluate, train
for name in names:
    {"train": train, "evaluate": evaluate}[name].main()
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three sets of the small digits."""
    folder = tmp_path_factory.mktemp("prepared")
    write_params(folder, **PARAMETERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main()
    return folder


def run(folder: Path, *stages: str, cap: str = "", cores: str = "", **shell: str) -> str:
    """Run stages in a process of their own, and return what they print."""
    done = subprocess.run(
        [sys.executable, "-c", STAGES, cap, cores, *stages],
        cwd=folder, env=os.environ | shell | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fresh(prepared: Path, name: str, **changes: object) -> Path:
    """Make a folder in which `train` can start."""
    folder = prepared / name
    folder.mkdir()
    write_params(folder, **(PARAMETERS | changes))
    (folder / "data").symlink_to(prepared / "data")
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    files = [path for name in ("models", "reports") for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def expected(prepared: Path) -> dict[str, bytes]:
    """Every output of the stages on this machine as it is."""
    folder = fresh(prepared, "as it is")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train.main()
        evaluate.main()
    return outputs(folder)


def test_the_record_names_no_processor(expected: dict[str, bytes]) -> None:
    assert len(expected) == 10
    recorded = environment.parse(expected[str(environment.PATH)].decode(), "as it is")
    assert recorded["bits"] == environment.PORTABLE
    assert set(recorded) == {"bits", "tensorflow", "keras", "numpy"}


@pytest.mark.parametrize(("cap", "cores", "shell"), [("AVX2", "1", {}), ("AVX512_CORE", "2", SHELL)])
def test_processor_cores_and_shell_decide_about_no_byte(
    cap: str, cores: str, shell: dict[str, str], prepared: Path, expected: dict[str, bytes]
) -> None:
    folder = fresh(prepared, cap)
    run(folder, "train", "evaluate", cap=cap, cores=cores, **shell)
    found = outputs(folder)
    assert {name for name in {*expected, *found} if found.get(name) != expected.get(name)} == set()


def test_without_fused_multiply_adds_each_stage_says_so_and_goes_on(prepared: Path) -> None:
    folder = fresh(prepared, "AVX", model__lstm_units=[16])
    printed = run(folder, "train", cap="AVX")
    first, *others = printed.splitlines()
    assert first.startswith("the bits of this training are those of this kind of processor: TensorFlow's product (48, ")
    assert first.endswith(" does not follow the definition in stages/arithmetic.py here")
    assert [line.split(":")[0] for line in others] == ["epoch 1/2", "epoch 2/2"]
    recorded = environment.parse((folder / environment.PATH).read_text(), "AVX")
    fault = first.partition(": ")[2]
    assert recorded.items() >= ({"bits": f"of this kind of processor: {fault}"} | environment.processor()).items()
    assert (folder / archive.PATH).exists()
    first, *others = run(folder, "evaluate", cap="AVX").splitlines()
    said = "the bits of this evaluation are those of this kind of processor: TensorFlow's product (48, "
    assert first.startswith(said)
    assert [line.partition(":")[0].split()[:2] for line in others] == [["test", "accuracy"]]


# The comparison of `make test-processors`


def test_the_first_difference_is_named() -> None:
    expected = {"initial variables": "1", "step 1: loss": "2", "probabilities": "3"}
    assert compare.difference(expected, dict(expected)) is None
    assert compare.difference(expected, expected | {"step 1: loss": "0", "probabilities": "0"}) == "step 1: loss"
    assert compare.difference(expected, {"initial variables": "1"}) == "step 1: loss"  # the program ended early
    assert compare.difference({"initial variables": "1"}, expected) == "step 1: loss"
    found = {"A": expected, "B": expected | {"step 1: loss": "0"}}
    lines = [line.split() for line in compare.table(expected, found).splitlines()]
    assert lines[2] == ["step", "1:", "loss", "2", "same", "different"]
    assert lines[-1] == ["verdict", "same", "different"]


def test_a_program_that_fails_on_the_bare_machine_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "0123 initial variables\n", "Traceback\nInputError: not found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match="this machine ended with exit code 1: InputError: not found"):
        compare.run("this machine")
    assert compare.run("QEMU's max", before=("qemu-x86_64",)) == {"initial variables": "0123"}


def test_a_missing_qemu_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.processors"],
        cwd=ROOT, env=os.environ | {"PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: qemu-x86_64 not found; install it with `apt-get install qemu-user`\n"
