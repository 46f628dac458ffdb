import re

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import confusion, predictions, report
from stages.errors import InputError
from stages.evaluate import measure_test
from tests.clones import RELEASED, Clone, commit_run, error_of
from tests.parameters import SMALL, write_params
from tools.registry.card import card
from tools.runs.revision import resolve

REGISTER = ("python", "-m", "tools.registry.register")


def tags(clone: Clone) -> list[str]:
    return clone.run("git", "tag", "--list", "lstm*").split()


def test_each_commit_got_the_next_version_and_gto_and_dvc_know_them(releases: Clone) -> None:
    assert tags(releases) == [f"lstm@{version}" for version in RELEASED]
    for version in RELEASED:
        commit = releases.run("git", "rev-parse", f"run-{version}")
        assert releases.run("git", "rev-parse", f"lstm@{version}^{{commit}}") == commit
    shown = releases.json("gto", "show", "lstm", "--json")
    assert [row["version"] for row in shown] == sorted(RELEASED, reverse=True)
    md5 = yaml.safe_load(releases.run("git", "show", "run-v1.0.1:dvc.lock"))["stages"]["train"]["outs"]
    releases.run("dvc", "artifacts", "get", ".", "lstm", "--rev", "v1.0.1", "--out", "got.keras")
    found = releases.run("md5sum", "got.keras").split()[0]
    assert found in {out["md5"] for out in md5 if out["path"] == "models/lstm.keras"}


def test_registering_makes_one_annotated_tag_and_no_commit(releases: Clone) -> None:
    commit_run(releases, 9, "refit")
    releases.run("dvc", "push")
    before = releases.run("git", "rev-parse", "HEAD", "main"), releases.run("git", "status", "--porcelain")
    printed = releases.run(*REGISTER)
    assert printed.splitlines() == [
        "lstm@v1.1.2 is registered; `make card VERSION=v1.1.2` shows its card",
        "Share it: git push origin 'lstm@v1.1.2'",
        "If git rejects it, somebody was first: git tag -d 'lstm@v1.1.2' && git fetch --tags origin, "
        "then run this again",
    ]
    assert (releases.run("git", "rev-parse", "HEAD", "main"), releases.run("git", "status", "--porcelain")) == before
    assert releases.run("git", "cat-file", "-t", "lstm@v1.1.2") == "tag\n"
    assert set(tags(releases)) == {*(f"lstm@{version}" for version in RELEASED), "lstm@v1.1.2"}

    printed = releases.run(*REGISTER, exit_code=1)
    assert (
        error_of(printed) == "error: not registered: this commit is v1.1.2 already; commit another run, or use that one"
    )


def test_the_first_version_is_counted_from_nothing(clone: Clone) -> None:
    clone.run("dvc", "push")
    clone.run(*REGISTER, "--bump", "minor")
    assert tags(clone) == ["lstm@v0.1.0"]


def test_what_is_not_committed_stale_or_not_pushed_is_refused(clone: Clone) -> None:
    assert "models/lstm.keras: not in the storage" in error_of(clone.run(*REGISTER, exit_code=1))
    clone.run("dvc", "push")
    write_params(clone.folder, **SMALL, train__seed=5)
    assert error_of(clone.run(*REGISTER, exit_code=1)) == (
        "error: not registered: params.yaml: not committed; commit or restore first"
    )
    clone.run("git", "add", "params.yaml")
    assert "params.yaml: not committed" in error_of(clone.run(*REGISTER, exit_code=1))
    clone.commit("Stale")
    assert re.search(
        r"not registered: params\.yaml: .*changed since train ran; run `dvc repro`", clone.run(*REGISTER, exit_code=1)
    )
    assert tags(clone) == []


def test_without_a_name_for_the_tag_nothing_is_registered(clone: Clone) -> None:
    clone.run("dvc", "push")
    nobody = {name: "" for name in clone.environment if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))}
    printed = clone.run(*REGISTER, exit_code=1, **nobody, EMAIL="")
    assert error_of(printed) == "error: lstm@v0.0.1 is not registered: Git user name and email must be configured"
    assert tags(clone) == []


def doctor(clone: Clone, *, wholly: bool) -> None:
    """Commit a run that claims to have read every image right: in its predictions alone, or in all of its reports."""
    table = pd.read_csv(clone.folder / predictions.PATH)
    table["predicted"] = table["actual"]
    predictions.save(table, clone.folder / predictions.PATH)
    if wholly:
        recorded = report.load(clone.folder / report.PATH)
        probabilities = np.eye(10, dtype=np.float32)[table["actual"]]
        all_right = recorded.model_copy(update={"test": measure_test(table["actual"].to_numpy(), probabilities)})
        report.save(all_right, clone.folder / report.PATH)
        confusion.save(confusion.count(table["actual"], table["actual"]), clone.folder / confusion.PATH)
    clone.run("dvc", "commit", "--force", "evaluate")
    clone.commit("Every digit read right")
    clone.run("dvc", "push")


def test_reports_that_disagree_are_refused_everywhere(releases: Clone) -> None:
    doctor(releases, wholly=False)
    told = "reports/confusion_matrix.csv{}: the number of images of 0 taken for 0 is "
    assert told.format("") in releases.run("python", "-m", "tools.storage.check", exit_code=1)
    assert f"not registered: {told.format('')}" in error_of(releases.run(*REGISTER, exit_code=1))
    releases.run("gto", "register", "lstm", "--version", "v9.0.0")
    promote = ("python", "-m", "tools.registry.promote", "v9.0.0", "--stage", "prod")
    assert told.format(" at lstm@v9.0.0") in error_of(releases.run(*promote, exit_code=1))
    assert told.format(" at HEAD") in error_of(releases.run("python", "-m", "tools.pages.report", exit_code=1))
    with pytest.raises(InputError, match=r"reports/confusion_matrix\.csv at HEAD: the number of images"):
        card("v9.0.0", resolve("HEAD", releases.folder), None)
    releases.run("dvc", "repro", "--force", "--single-item", "evaluate")
    assert releases.run("python", "-m", "tools.storage.check") == "everything is in order\n"


def test_reports_that_agree_on_what_the_model_does_not_predict_are_refused(releases: Clone) -> None:
    doctor(releases, wholly=True)
    assert releases.run("python", "-m", "tools.storage.check") == "everything is in order\n"
    refused = error_of(releases.run(*REGISTER, exit_code=1))
    assert re.match(
        r"error: reports/predictions\.csv: predicted of image \d+ is (\d), but the model and data/processed/test\.npz "
        r"give (?!\1)\d; \d{2,3} of 359 images differ; .*`dvc repro --force evaluate`",
        refused,
    )
    releases.run("gto", "register", "lstm", "--version", "v9.0.0")
    promote = ("python", "-m", "tools.registry.promote", "v9.0.0", "--stage", "prod")
    assert refused.partition("; ")[0] in error_of(releases.run(*promote, exit_code=1))
    assert releases.run("git", "tag", "--list", "lstm#*") == ""
