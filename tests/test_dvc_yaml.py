"""dvc.yaml names exactly what the stages read."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import evaluate, prepare, train
from stages.params import Params, Section, load_params
from tests.parameters import SMALL, write_params
from tools import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = PIPELINE["stages"]


def first_party_imports(path: Path) -> set[Path]:
    """Find the files of stages/ that a file imports, directly or through another file."""
    found: set[Path] = set()
    pending = [path, ROOT / "stages/__init__.py"]  # which every import of a module of the package runs
    while pending:
        file = pending.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
            candidates = (ROOT / f"{name.replace('.', '/')}.py" for name in names)
            pending += [candidate for candidate in candidates if candidate.is_relative_to(ROOT / "stages")]
            pending = [candidate for candidate in pending if candidate.exists()]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_a_stage_depends_on_is_the_code_it_imports(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    named = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert named == {str(path.relative_to(ROOT)) for path in first_party_imports(ROOT / f"stages/{stage}.py")}


@pytest.mark.parametrize("stage", STAGES)
def test_the_environment_is_an_input_of_every_stage(stage: str) -> None:
    assert "requirements.txt" in STAGES[stage]["deps"]


def test_no_stage_imports_another_and_none_imports_the_tools() -> None:
    stages = {ROOT / f"stages/{stage}.py" for stage in STAGES}
    for stage in stages:
        assert first_party_imports(stage) & stages == {stage}
    for file in (ROOT / "stages").glob("*.py"):
        assert "tools" not in {
            name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else []
            )
        }  # fmt: skip


def test_train_never_reads_the_test_set() -> None:
    assert "data/processed/test.npz" not in STAGES["train"]["deps"]


def test_a_stage_reads_the_sections_it_names_and_every_parameter_is_read(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(in_empty_folder, **SMALL, augment__shift=1)
    read: set[tuple[str, str]] = set()

    def recording(self: Section, name: str) -> Any:
        if name in type(self).model_fields:
            read.add((type(self).__name__.lower(), name))
        return object.__getattribute__(self, name)

    def loaded() -> Params:
        params = load_params()
        read.clear()  # forget what the checks of the whole file read
        return params

    monkeypatch.setattr(Section, "__getattribute__", recording)
    read_by_any: set[tuple[str, str]] = set()
    for name, stage in (("prepare", prepare), ("train", train), ("evaluate", evaluate)):
        monkeypatch.setattr(stage, "load_params", loaded)
        stage.main()
        sections = {section for section, _ in read} - {"params"}
        assert sections == set(STAGES[name].get("params", []))
        read_by_any |= read
    assert read_by_any - {pair for pair in read_by_any if pair[0] == "params"} == {
        (section, parameter)
        for section, field in Params.model_fields.items()
        for parameter in field.annotation.model_fields  # type: ignore[union-attr]
    }


def test_everything_is_described() -> None:
    for stage in STAGES.values():
        assert stage["desc"]
        for kind in ("outs", "metrics", "plots"):
            for output in stage.get(kind, []):
                ((_, properties),) = output.items()
                assert properties["desc"]
    assert PIPELINE["artifacts"]["lstm"] | {"desc": "", "labels": []} == {
        "path": "models/lstm.keras",
        "type": "model",
        "desc": "",
        "labels": [],
    }
    assert PIPELINE["artifacts"]["lstm"]["desc"]


def test_reports_are_in_git_and_data_and_models_in_the_cache() -> None:
    for stage in STAGES.values():
        for output in stage.get("metrics", []) + stage.get("plots", []):
            ((path, properties),) = output.items()
            assert path.startswith("reports/")
            assert properties["cache"] is False
        for output in stage.get("outs", []):
            ((path, properties),) = output.items()
            assert path.startswith(("data/", "models/"))
            # Either would switch the run-cache off.
            assert not {"cache", "persist"} & set(properties)
