import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from stages.params import LAST_RUN
from tests.clones import PIPELINE, Clone
from tests.images import save_stroke
from tests.parameters import SMALL, write_params
from tools.runs.lock import load
from tools.storage import check, store
from tools.storage.check import disagreements, problems, problems_of_push


@pytest.fixture
def pushed(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone in order, which is the working directory."""
    clone.run("dvc", "push")
    monkeypatch.chdir(clone.folder)
    return clone


def test_a_commit_that_is_whole_has_no_problem_pulled_or_not(pushed: Clone) -> None:
    assert problems() == []
    remove_data(pushed)
    assert problems() == []


def remove_data(clone: Clone) -> None:
    """Leave what a new clone has."""
    for folder in ("data", "models", ".dvc/cache"):
        shutil.rmtree(clone.folder / folder)
    clone.run("git", "restore", "data", "models")


def test_own_pictures_are_checked_as_other_data(pushed: Clone) -> None:
    for name in ("1", "2"):
        (pushed.folder / "data/own" / name).mkdir()
        save_stroke(pushed.folder / "data/own" / name / "stroke.png", width=int(name) + 4)
    pushed.run("dvc", "add", "data/own/1", "data/own/2")
    assert problems()[0] == "data/own: changed since prepare ran; run `dvc repro`"
    pushed.run("dvc", "repro")
    pushed.commit("Own pictures")
    assert "data/own/1: not in the storage; run `dvc push` in a clone that has it" in problems()
    pushed.run("dvc", "push")
    assert problems() == []
    (pushed.folder / "data/own/1/stroke.png").unlink()
    assert problems() == [
        "data/own/1: differs from what data/own/1.dvc records; run `dvc repro`, or `dvc checkout data/own/1.dvc` "
        "restores it"
    ]
    pushed.run("dvc", "checkout", "--force", "data/own/1.dvc")
    assert problems() == []
    remove_data(pushed)
    assert problems() == []


def test_a_data_set_of_ones_own_is_checked_as_other_data(pushed: Clone) -> None:
    (pushed.folder / "data/letters.npz").write_bytes(b"letters")
    pushed.run("dvc", "add", "data/letters.npz")
    text = (pushed.folder / "dvc.yaml").read_text()
    (pushed.folder / "dvc.yaml").write_text(
        text.replace("      - data/own\n", "      - data/letters.npz\n      - data/own\n")
    )
    assert problems()[0] == "data/letters.npz: changed since prepare ran; run `dvc repro`"
    pushed.run("dvc", "repro")
    pushed.commit("Letters")
    pushed.run("dvc", "push")
    (pushed.folder / "data/letters.npz").write_bytes(b"others")
    assert problems() == [
        "data/letters.npz: differs from what data/letters.npz.dvc records; run `dvc repro`, or `dvc checkout "
        "data/letters.npz.dvc` restores it"
    ]
    remove_data(pushed)
    assert problems() == []


def test_the_files_of_a_folder_are_looked_for_by_a_clone_that_has_none(pushed: Clone) -> None:
    with Repo() as repo:
        (raw,) = [out for out in repo.index.outs if out.hash_info.isdir]
        stored = store.open_storage(repo)
        ((_, _, file),) = raw.get_obj()
    remove_data(pushed)
    Path(stored.oid_to_path(file.value)).unlink()
    assert problems() == ["data/raw/digits.csv.gz: not in the storage; run `make repair` in a clone that has it"]
    Path(stored.oid_to_path(raw.hash_info.value)).unlink()
    assert problems() == ["data/raw: not in the storage; run `dvc push` in a clone that has it"]


def test_what_cannot_be_asked_hides_nothing_else(pushed: Clone) -> None:
    pushed.run("dvc", "remote", "modify", "storage", "url", "gs://bucket/path")
    (pushed.folder / "stages/figures.py").write_text("")
    stale, storage_of_all = problems()
    assert stale == "stages/figures.py: changed since evaluate ran; run `dvc repro`"
    assert storage_of_all.startswith("the storage needs the package dvc-gs: ")


def test_it_runs_without_tensorflow(pushed: Clone) -> None:
    program = (
        "import sys, runpy; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "sys.argv = ['check']; runpy.run_module('tools.storage.check', run_name='__main__')"
    )
    assert pushed.run("python", "-c", program) == "everything is in order\n"


def test_each_way_to_be_stale_is_named_with_its_remedy(pushed: Clone) -> None:
    for path in ("stages/figures.py", "requirements.txt"):
        with (pushed.folder / path).open("a") as file:
            file.write("# changed\n")
    write_params(pushed.folder, **SMALL, train__seed=1, augment__shift=1)
    text = (pushed.folder / "dvc.yaml").read_text()
    (pushed.folder / "dvc.yaml").write_text(text.replace("python -m stages.prepare", "python -B -m stages.prepare"))
    assert sorted(problems()) == [
        "dvc.yaml: the command changed since prepare ran; run `dvc repro`",
        "params.yaml: augment, train changed since train ran; run `dvc repro`",
        "requirements.txt: changed since prepare, train, evaluate ran; run `dvc repro`",
        "stages/figures.py: changed since evaluate ran; run `dvc repro`",
    ]


def test_the_remedies_of_changed_outputs_bring_them_back(pushed: Clone) -> None:
    report, model = "reports/predictions.csv", "models/lstm.keras"
    for path in (report, model):
        (pushed.folder / path).write_bytes(b"another")
    of_report, of_model = problems()[::-1] if problems()[0].startswith(model) else problems()
    assert of_report == (
        f"{report}: differs from what dvc.lock records for evaluate; `git restore {report}` restores it"
    )
    assert of_model.startswith(
        f"{model}: differs from what dvc.lock records for train; restore it with `dvc checkout --force`"
    )
    pushed.run("git", "restore", report)
    pushed.run("dvc", "checkout", "--force")
    assert problems() == []


def test_a_report_of_another_model_is_named_though_it_is_committed(pushed: Clone) -> None:
    """As the merge button of a hosting site leaves it."""
    report = pushed.folder / "reports/metrics.json"
    report.write_text(report.read_text().replace("0", "1"))
    pushed.commit("Merge")
    (line,) = problems()
    assert line.startswith("reports/metrics.json: differs from what dvc.lock records for evaluate")
    pushed.run("dvc", "repro")
    assert problems() == []


def test_reports_that_disagree_are_named_beside_what_is_stale(pushed: Clone) -> None:
    report = pushed.folder / "reports/metrics.json"
    errors = json.loads(report.read_text())["test"]["errors"]
    report.write_text(report.read_text().replace(f'"errors": {errors}', '"errors": 1'))
    pushed.run("dvc", "commit", "--force", "evaluate")
    write_params(pushed.folder, **SMALL, train__seed=1)
    assert problems() == [
        "params.yaml: train changed since train ran; run `dvc repro`",
        f"reports/metrics.json: test.errors is 1, but reports/predictions.csv gives {errors}; one of them is not of "
        "this model: `dvc repro --force evaluate` makes both again",
    ]


def test_a_tag_of_no_commit_is_pushed_without_data(pushed: Clone) -> None:
    head, blob = (pushed.run("git", "rev-parse", name).strip() for name in ("HEAD", "HEAD:params.yaml"))
    pushed.run("git", "tag", "--annotate", "--message", "m", "lstm@v5.0.0", blob)
    tag = pushed.run("git", "rev-parse", "lstm@v5.0.0").strip()
    refs = "refs/tags/lstm@v5.0.0 {0} refs/tags/lstm@v5.0.0 " + "0" * 40
    assert problems_of_push([refs.format(tag), refs.format(blob), refs.format(head)]) == []


def test_experiments_are_pushed_without_a_look_for_their_data(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.folder)
    head = clone.run("git", "rev-parse", "HEAD").strip()
    line = f"{{0}} {head} {{0}} {'0' * 40}"
    ref = f"refs/exps/{head[:2]}/{head[2:]}/rate-0-s0"
    assert len(problems_of_push([line.format("refs/heads/main"), line.format(ref)])) == 8
    assert problems_of_push([line.format(ref)]) == []


def test_git_may_name_a_pushed_commit_with_spaces(pushed: Clone) -> None:
    head = pushed.run("git", "rev-parse", "HEAD").strip()
    assert problems_of_push([f"HEAD@{{1 day ago}} {head} refs/heads/main {'0' * 40}"]) == []


def test_a_lock_merged_line_by_line_is_named_without_any_data(pushed: Clone) -> None:
    lock = yaml.safe_load((pushed.folder / "dvc.lock").read_text())
    (dep,) = [dep for dep in lock["stages"]["evaluate"]["deps"] if dep["path"] == "models/lstm.keras"]
    dep["md5"] = "0" * 32
    (pushed.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    remove_data(pushed)
    line = "dvc.lock: evaluate ran on another models/lstm.keras than train made; run `dvc repro`"
    assert problems() == [line]
    assert list(disagreements(load())) == [line]


@pytest.mark.parametrize("stage", PIPELINE["stages"])
def test_a_stage_without_a_run_is_named_once(stage: str, pushed: Clone) -> None:
    lock = yaml.safe_load((pushed.folder / "dvc.lock").read_text())
    del lock["stages"][stage]
    (pushed.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    assert problems() == [f"dvc.lock: has no run of {stage}; run `dvc repro`"]


@pytest.mark.parametrize("text", ["<<<<<<< ours\n", "stages: [", "[]", "schema: '2.0'\n"])
def test_a_broken_lock_is_named(text: str, pushed: Clone) -> None:
    (pushed.folder / "dvc.lock").write_text(text)
    (line,) = problems()
    assert re.fullmatch(
        r"dvc\.lock: (not readable as YAML|records no run): .*; run `git checkout HEAD dvc\.lock` .*", line
    )
    (pushed.folder / "dvc.lock").unlink()
    assert problems() == ["dvc.lock: not found; run `git checkout HEAD dvc.lock` or `dvc repro`"]


def test_bad_parameters_are_named(pushed: Clone) -> None:
    write_params(pushed.folder, **(SMALL | {"train__epochs": 0}))
    assert problems() == [
        f"params.yaml: train.epochs: Input should be greater than or equal to 1, found 0; {LAST_RUN}",
        "params.yaml: train changed since train ran; run `dvc repro`",
    ]


def test_what_was_not_pushed_is_named(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.folder)
    with Repo() as repo:
        stored = [out for out in repo.index.outs if out.use_cache]
    found = problems()
    assert len(found) == len(stored) + 1, "and the file in the folder"
    assert all(line.endswith(": not in the storage; run `dvc push` in a clone that has it") for line in found)


def test_a_folder_of_another_machine_is_not_looked_for_in_ci(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone.folder)
    monkeypatch.setenv("CI", "true")
    assert problems() == []
    told = capsys.readouterr().err
    assert f"the storage is the folder {clone.folder.parent}/mnist-lstm-storage" in told
    assert "in CI this folder is not checked" in told


def test_the_exit_code_says_whether_all_is_well(
    pushed: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check"])
    with pytest.raises(SystemExit, match="0"):
        check.main()
    assert capsys.readouterr().out == "everything is in order\n"
    (pushed.folder / "params.yaml").write_text("")
    with pytest.raises(SystemExit, match="1"):
        check.main()
    assert capsys.readouterr().out.startswith("params.yaml: ")
    assert Path("params.yaml").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
@pytest.mark.parametrize(
    "tool", ["tools.storage.check", "tools.registry.register", "tools.registry.card v1.0.0"], ids=lambda tool: tool[6:]
)
def test_a_clone_of_another_user_is_one_line(tool: str, clone: Clone) -> None:
    for path in (clone.folder, *clone.folder.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    printed = clone.run("python", "-m", *tool.split(), exit_code=1).splitlines()
    (line,) = [line for line in printed if not line.startswith("note: ")]
    assert "git config --global --add safe.directory " in line
