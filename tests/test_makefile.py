"""What users give to make reaches the tools as it is, and no part of it is run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import ROOT

PROGRAM = """\
#!/bin/sh
case "$1$2$3" in
-mvenv*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
esac
for argument; do printf '%s\\0' "$argument"; done >> arguments
test -z "$SWEEPS" || printf 'SWEEPS=%s\\0' "$SWEEPS" >> arguments
test -z "$TEAM" || printf 'TEAM=%s\\0' "$TEAM" >> arguments
printf 'FAULTS=%s\\0' "$FAULTS" >> arguments
"""

VALUES = [
    "x;touch mark", "'; touch mark; '", '"; touch mark; "', "$(touch mark)", "`touch mark`", "x\ntouch mark",
    "$(shell touch mark)", "$(eval $(shell touch mark))", "$$(touch mark)", "x & touch mark", "x | touch mark",
    "--rev=x", "-x", "a b", "a # b", "\\", "*", "~", "$HOME ${HOME} %s", "()", "ü",
]  # fmt: skip

# By target: what each value must be as an argument of a program.
TARGETS = {
    "predict": {"MODEL": ["--model={}"], "IMAGE": ["--", "{}"]},
    "serve": {"MODEL": ["--model={}"], "HOST": ["--host={}"], "PORT": ["--port={}"], "COLLECT": ["--collect={}"]},
    "collect": {"FROM": ["--", "{}"]},
    "verify": {"REV": ["--rev={}"]},
    "compare": {"REV": ["--", "{}"], "REV2": ["{}"]},
    "report": {"REV": ["--", "{}"]},
    "storage": {"ENDPOINT": ["--endpoint={}"], "URL": ["--", "{}"]},
    "register": {"BUMP": ["--bump={}"]},
    "card": {"VERSION": ["--", "{}"]},
    "promote": {"STAGE": ["--stage={}"], "VERSION": ["--", "{}"]},
    "rollback": {"STAGE": ["--stage={}"]},
    "sweep": {"RAY": ["--ray={}"], "SWEEP": ["--", "{}"]},
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The Makefile in a folder whose environment holds programs that note their arguments."""
    folder = tmp_path / 'a "$(touch mark)" it\'s'
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name in (
        "Makefile",
        "requirements.txt",
        "requirements-serve.txt",
        "requirements-sweep.txt",
        "requirements-dev.txt",
    ):
        shutil.copy(ROOT / name, folder)
    for name in ("python", "dvc", "ruff", "mypy"):
        write_program(programs / name)
    for name in ("installed", "installed-serve", "installed-sweep", "installed-dev"):
        (folder / ".venv" / name).touch()
    (folder / "dvc.yaml").touch()
    for command in (["init", "--quiet"], ["add", "dvc.yaml"]):
        subprocess.run(["git", *command], cwd=folder, env=environment(), check=True)
    return folder


def write_program(path: Path) -> None:
    path.write_text(PROGRAM)
    path.chmod(0o755)


def environment() -> dict[str, str]:
    """Return the variables of this process, without those of git, of make and of the tasks."""
    names = {"OFFLINE", "PYTHON", "QUICK", "SAMPLE"} | {name for values in TARGETS.values() for name in values}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "MAKE", "MFLAGS")) and name not in names
    }


def make(tree: Path, *arguments: str, exit_code: int = 0, given: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["make", *arguments], cwd=tree, env={**environment(), **(given or {})}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert not list(tree.rglob("mark"))
    return done.stdout + done.stderr


def arguments(tree: Path) -> list[str]:
    path = tree / "arguments"
    found = path.read_text().split("\0")[:-1]
    path.unlink()
    return found


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_value_is_one_argument(target: str, value: str, tree: Path) -> None:
    values = dict.fromkeys(TARGETS[target], value)
    expected = {name: [form.format(value) for form in forms] for name, forms in TARGETS[target].items()}
    make(tree, target, *(f"{name}={each}" for name, each in values.items()))
    everything = [argument for forms in expected.values() for argument in forms]
    assert arguments(tree)[-1 - len(everything) : -1] == everything
    make(tree, target, given=values)
    others = [argument for name, forms in expected.items() if name != "HOST" for argument in forms]
    found = arguments(tree)
    assert found[-1 - len(others) : -1] == others
    assert not any(argument.startswith("--host") for argument in found), "other programs export HOST too"


@pytest.mark.parametrize(
    ("target", "name", "without", "given"),
    [
        ("bench", "QUICK", "--all", "--quick"),
        ("test-faults", "SAMPLE", "FAULTS=all", "FAULTS=sample"),
        ("test-processors", "SAMPLE", "tests.processors", "--sample"),
        ("test-sweep", "SAMPLE", "SWEEPS=all", "SWEEPS=sample"),
        ("test-team", "SAMPLE", "TEAM=all", "TEAM=sample"),
    ],
)
def test_a_switch_is_on_whatever_its_value(target: str, name: str, without: str, given: str, tree: Path) -> None:
    make(tree, target)
    found = arguments(tree)
    assert without in found
    assert given not in found
    for value in VALUES:
        make(tree, target, given={name: value})
        assert given in arguments(tree)
        make(tree, target, f"{name}={value}")
        assert given in arguments(tree)


@pytest.mark.parametrize("target", ["register", "promote", "rollback"])
def test_the_registry_decides_offline_if_told_so(target: str, tree: Path) -> None:
    given = {"VERSION": "v1.0.0", "STAGE": "prod"}
    make(tree, target, given=given)
    assert "--offline" not in arguments(tree)
    make(tree, target, "OFFLINE=1", given=given)
    assert "--offline" in arguments(tree)


@pytest.mark.parametrize("value", VALUES)
def test_a_python_that_is_none_is_not_run(value: str, tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    for line, given in ((["check"], {"PYTHON": value}), (["check", f"PYTHON={value}"], {})):
        printed = make(tree, *line, exit_code=2, given=given)
        assert "error: Python 3.11, 3.12 or 3.13 not found; install one, or name it" in printed


def test_a_python_is_taken_by_its_name_whatever_the_name(tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    write_program(tree / "a python; touch mark")
    make(tree, "check", f"PYTHON={tree}/a python; touch mark")
    found = arguments(tree)
    assert found[3:6] == ["-m", "venv", ".venv"]
    assert "tools.storage.check" in found


def test_without_values_a_target_says_which_it_needs(tree: Path) -> None:
    needed = {"predict": "IMAGE", "storage": "URL", "card": "VERSION", "rollback": "STAGE", "sweep": "SWEEP"}
    for target, name in needed.items():
        assert f"{name}=" in make(tree, target, exit_code=2)
    for given in ("VERSION=v1.0.0", "STAGE=prod"):
        assert "name both" in make(tree, "promote", given, exit_code=2)
    for target, module in (("verify", "verify"), ("report", "pages.report"), ("compare", "pages.compare")):
        make(tree, target)
        assert arguments(tree)[:3] == ["-m", f"tools.{module}", "FAULTS="]


@pytest.mark.parametrize("target", ["repro", "demo"])
def test_dvc_is_not_started_where_the_inputs_are_refused(target: str, tree: Path) -> None:
    shutil.copytree(ROOT / "stages", tree / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tree / "params.yaml").write_text(params.replace("  epochs:", "  epoch:"), encoding="utf-8")
    programs = tree / ".venv/bin"
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    printed = make(tree, target, exit_code=2)
    assert "error: params.yaml: train.epochs is missing; train.epoch is unknown, expected epochs, " in printed
    assert "Traceback" not in printed
    (tree / "params.yaml").write_text(params, encoding="utf-8")
    (tree / "data/own").mkdir(parents=True)
    (tree / "data/own/3.dvc").touch()
    printed = make(tree, target, exit_code=2)
    assert "error: data/own/3: not here, though data/own/3.dvc names it; get it with `dvc pull`" in printed
    assert not (tree / "arguments").exists()


def test_a_shallow_clone_in_which_dvc_keeps_no_experiment_is_refused(tree: Path) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, "commit", "--quiet", "--message=One"], cwd=tree, env=environment(), check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, env=environment(), capture_output=True, check=True)
    (tree / ".git/shallow").write_bytes(head.stdout)
    printed = make(tree, "demo", exit_code=2)
    assert "error: this clone is shallow, and DVC keeps no experiment there; get all commits with: git fetch" in printed
    assert not (tree / "arguments").exists()


@pytest.mark.parametrize(("target", "of"), [("repro", []), ("demo", ["demo"])])
def test_a_run_ends_with_its_page(target: str, of: list[str], tree: Path) -> None:
    make(tree, target)
    assert arguments(tree)[-3 - len(of) :] == ["-m", "tools.pages.report", *of, "FAULTS="]


@pytest.mark.parametrize("around", [False, True])
def test_a_download_without_git_is_told_before_the_installation(around: bool, tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    shutil.rmtree(tree / ".git")
    if around:  # in a folder of another repository
        subprocess.run(["git", "init", "--quiet"], cwd=tree.parent, check=True)
    for target in ("repro", "demo", "test"):
        printed = make(tree, target, exit_code=2)
        assert f"error: {tree} is no git repository of this project" in printed
        assert "get one with: git clone" in printed
    assert not (tree / ".venv").exists()
    assert not (tree / "arguments").exists()


@pytest.mark.parametrize("name", ["a{}b", "{x}", "}"])
def test_a_path_in_which_dvc_fails_is_refused(name: str, tree: Path) -> None:
    other = tree.rename(tree.with_name(name))
    assert f"{other}: DVC does not work in a path with {{ or }}; move the repository" in make(
        other, "repro", exit_code=2
    )
    assert not (other / "arguments").exists()
