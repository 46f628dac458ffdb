"""Two people train, share and merge."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clones import Clone
from tests.team.people import Team, experiment, md5_of
from tests.team.storages import Bucket

MODEL = "models/lstm.keras"
RAW = "data/raw/digits.csv.gz"


def check(clone: Clone) -> str:
    return clone.run("python", "-m", "tools.storage.check")


def failed_check(clone: Clone) -> list[str]:
    return [
        line
        for line in clone.run("python", "-m", "tools.storage.check", exit_code=1).splitlines()
        if line[:5] != "note:"
    ]


def repair(clone: Clone, exit_code: int = 0) -> list[str]:
    return clone.run("python", "-m", "tools.storage.repair", exit_code=exit_code).splitlines()


def test_both_train_different_experiments_and_merge(team: Team, runs: dict[str, Path]) -> None:
    experiment(team.ann, "ann", runs)
    team.ann.run("dvc", "push")
    team.ann.run("git", "push", "--quiet")
    experiment(team.ben, "ben", runs)
    team.ben.run("dvc", "push")
    assert "fetch first" in team.ben.run("git", "push", exit_code=1)

    merged = subprocess.run(
        ["git", "pull", "--no-rebase", "--no-edit"],
        cwd=team.ben.folder, env=team.ben.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in merged.stderr.splitlines() if "dvc" in line]
    assert line == (
        "dvc.lock: merged stage by stage, but train, evaluate changed on both sides; now run `dvc repro --pull`"
    )
    assert "<<<<" not in (team.ben.folder / "dvc.lock").read_text()
    params = (team.ben.folder / "params.yaml").read_text()
    assert "dropout: 0.5" in params
    assert "seed: 1" in params
    for report in ("metrics.json", "predictions.csv", "mistakes.png"):
        of_ben = team.ben.run("git", "rev-parse", f"HEAD^1:reports/{report}")
        assert team.ben.run("git", "rev-parse", f"HEAD:reports/{report}") == of_ben, "the merge keeps our whole file"
    assert failed_check(team.ben) == [
        f"dvc.lock: has no run of {stage}; run `dvc repro`" for stage in ("train", "evaluate")
    ]

    printed = team.ben.run("dvc", "repro", "--pull")
    assert "Stage 'prepare' didn't change, skipping" in printed
    assert "Running stage 'train'" in printed
    team.ben.commit("The merged experiments, run")
    team.ben.run("dvc", "push")
    team.ben.run("git", "push", "--quiet")

    third = team.join("third")
    third.run("dvc", "pull")
    assert third.content() == team.ben.content()
    assert "everything is in order" in check(third)
    team.ann.run("git", "pull", "--quiet")
    team.ann.run("dvc", "pull")
    assert team.ann.content() == team.ben.content()


def test_two_pushes_at_once_store_the_data_of_both_and_refuse_one_commit(team: Team, runs: dict[str, Path]) -> None:
    clones = {"ann": team.ann, "ben": team.ben}
    for name, clone in clones.items():
        experiment(clone, name, runs)

    def at_once(*command: str) -> dict[str, tuple[int, str]]:
        started = {
            name: subprocess.Popen(
                command, cwd=clone.folder, env=clone.environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for name, clone in clones.items()
        }  # fmt: skip
        printed = {name: process.communicate()[0] for name, process in started.items()}
        return {name: (process.returncode, printed[name]) for name, process in started.items()}

    assert {code for code, _ in at_once("dvc", "push").values()} == {0}
    pushed = at_once("git", "push")
    (loser,) = [name for name, (code, _) in pushed.items() if code]
    assert re.search("fetch first|cannot lock ref|failed to update", pushed[loser][1])
    for clone in clones.values():
        assert repair(clone) == ["8 of 8 files of this commit are whole in the storage"]
    clones[loser].run("git", "pull", "--no-rebase", "--no-edit")


def test_a_git_push_before_its_dvc_push_is_refused(team: Team, runs: dict[str, Path]) -> None:
    experiment(team.ann, "ann", runs)
    before = team.ann.run("git", "ls-remote", str(team.git), "main")
    printed = team.ann.run("git", "push", exit_code=1)
    assert f"{MODEL}: not in the storage; run `dvc push` in a clone that has it" in printed.splitlines()
    assert "data/processed" not in printed, "the storage has these files"
    assert team.ann.run("git", "ls-remote", str(team.git), "main") == before
    team.ann.run("git", "push", "--dry-run", "--no-verify")

    # A commit that is not checked out: a branch, and an annotated tag.
    team.ann.run("git", "switch", "--quiet", "--create", "other", "origin/main")
    team.ann.run("git", "tag", "--annotate", "--message", "m", "v1", "main")
    commit = team.ann.run("git", "rev-parse", "main")[:10]
    for ref in ("main", "v1"):
        printed = team.ann.run("git", "push", "origin", ref, exit_code=1)
        assert f"{MODEL}: not in the storage; run `git checkout {commit} && dvc push` in a clone that has it" in printed
    team.ann.run("sh", "-c", f"git checkout --quiet {commit} && dvc push")
    team.ann.run("git", "push", "--quiet", "origin", "main", "v1")
    # Nothing to check when a branch is removed.
    team.ann.run("git", "push", "--quiet", "origin", "--delete", "v1")


def without_end(content: bytes) -> bytes:
    return content[:-10]


def with_another_end(content: bytes) -> bytes:
    return content[:-10] + bytes(10)


def test_a_damaged_or_missing_file_in_the_storage_is_named_and_repaired(team: Team) -> None:
    names = {
        MODEL: md5_of(team.ann, MODEL),
        RAW: hashlib.md5((team.ann.folder / RAW).read_bytes(), usedforsecurity=False).hexdigest(),
    }
    expected = team.ann.content()
    for path, damage, found_by_check in (
        (MODEL, None, f"{MODEL}: not in the storage; run `dvc push` in a clone that has it"),
        (RAW, None, f"{RAW}: not in the storage; run `make repair` in a clone that has it"),
        (MODEL, without_end, f"{MODEL}: damaged in the storage, .*; run `make repair` in a clone that has it"),
        (MODEL, with_another_end, None),
        (RAW, with_another_end, None),
    ):
        good = team.storage.read(names[path])
        team.storage.remove(names[path])
        if damage:
            team.storage.write(names[path], damage(good))
        if found_by_check:
            (line,) = failed_check(team.ann)
            assert re.fullmatch(found_by_check, line)
        for folder in ("data", "models", ".dvc/cache"):
            shutil.rmtree(team.ben.folder / folder)
        assert "failed to pull" in team.ben.run("dvc", "pull", exit_code=1)
        line, _ = repair(team.ben, exit_code=1)
        assert re.fullmatch(
            f"{path}: .* in the storage, not in this cache; run `make repair` in a clone that has it", line
        )

        line, _ = repair(team.ann)
        assert re.fullmatch(f"{path}: was .* in the storage; replaced from the cache", line)
        assert team.storage.read(names[path]) == good
        team.ben.run("git", "restore", ".")
        team.ben.run("dvc", "pull", "--force")
        assert team.ben.content() == expected


@pytest.mark.parametrize("storage", ["s3"], indirect=True)  # a folder never refuses the superuser
def test_a_file_that_the_storage_refuses_is_named(team: Team) -> None:
    assert isinstance(team.storage, Bucket)
    md5 = md5_of(team.ann, MODEL)
    team.storage.refuse(md5)
    try:
        (line,) = failed_check(team.ann)
        assert line.startswith(f"{MODEL}: the storage refuses {team.storage.bucket}/{team.storage.key(md5)}: ")
        assert "ask who runs it" in line
        assert "refuse" in repair(team.ann, exit_code=1)[-1]
    finally:
        team.storage.server.refuse()
    assert "everything is in order" in check(team.ann)
