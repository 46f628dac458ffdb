import re

import yaml

from tests.clones import RELEASED, Clone, commit_run, error_of
from tests.parameters import SMALL, write_params

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
    commit_run(releases, 9, 5, 0)
    releases.run("dvc", "push")
    before = releases.run("git", "rev-parse", "HEAD", "main"), releases.run("git", "status", "--porcelain")
    printed = releases.run(*REGISTER)
    assert printed.splitlines() == [
        "lstm@v1.1.2 is registered; `make card VERSION=v1.1.2` shows its card",
        "Share it: git push origin lstm@v1.1.2",
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


def test_a_number_once_given_is_not_given_again(releases: Clone) -> None:
    releases.run("gto", "deprecate", "lstm", "v1.1.1")
    commit_run(releases, 9, 5, 0)
    releases.run("dvc", "push")
    assert "lstm@v1.1.2 is registered" in releases.run(*REGISTER)


def test_without_a_name_for_the_tag_nothing_is_registered(clone: Clone) -> None:
    clone.run("dvc", "push")
    nobody = {name: "" for name in clone.environment if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))}
    printed = clone.run(*REGISTER, exit_code=1, **nobody, EMAIL="")
    print(printed)
    assert "error: " in printed
