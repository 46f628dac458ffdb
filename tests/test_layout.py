"""The rules of the layout: which module may import which, and which module names a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import archive, confusion, dataset, environment, figures, history, own, params, predictions, report
from tools import ROOT
from tools.runs import lock

# The packages of tools, the lowest first; each may import those before it.
PACKAGES = ("runs", "storage", "registry", "pages", "clone", "serve", "bench", "sweep")
LOW = {"runs", "storage"}
APART = {"clone", "serve", "bench"}  # these import no other packages than the low ones

OWNERS = {
    "stages/archive.py": [archive.PATH],
    "stages/confusion.py": [confusion.PATH],
    "stages/dataset.py": [dataset.TRAIN, dataset.VALIDATION, dataset.TEST, dataset.OWN_TEST],
    "stages/environment.py": [environment.PATH],
    "stages/figures.py": [figures.LEARNING_CURVES, figures.CONFUSION_MATRIX, figures.MISTAKES],
    "stages/history.py": [history.PATH],
    "stages/own.py": [own.FOLDER],
    "stages/params.py": [params.PATH],
    "stages/predictions.py": [predictions.PATH, predictions.OWN_PATH],
    "stages/report.py": [report.PATH],
    "tools/runs/lock.py": [lock.PATH],
}

FILES = sorted(path for folder in ("stages", "tools") for path in (ROOT / folder).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "tools" and (ROOT / "tools" / parts[1]).is_dir() else None


def test_every_folder_of_tools_is_a_package() -> None:
    assert {path.parent.name for path in (ROOT / "tools").glob("*/*.py")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_is_below_it(package: str) -> None:
    below = LOW | {package} if package in APART else set(PACKAGES[: PACKAGES.index(package) + 1])
    for file in (ROOT / "tools" / package).glob("*.py"):
        assert {package_of(name) for name in imported(file)} - {None} <= below, file


def test_only_sweeps_import_ray_and_optuna() -> None:
    users = {file for file in FILES if {name.split(".")[0] for name in imported(file)} & {"ray", "optuna"}}
    assert {file.parent for file in users} == {ROOT / "tools/sweep"}


@pytest.mark.parametrize("owner", OWNERS)
def test_only_its_owner_names_the_path_of_a_file(owner: str) -> None:
    for file in FILES:
        if file == ROOT / owner:
            continue
        texts = {
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for path in OWNERS[owner]:
            # Documentation and messages may mention a file. Only a text that equals its path can open it.
            assert str(path) not in texts, file
