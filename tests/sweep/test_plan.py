"""What of a sweep is done and what is to run."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages import history
from stages.errors import InputError
from tests.clones import Clone, error_of
from tests.parameters import make_params
from tools.runs.run import flat
from tools.sweep import remote
from tools.sweep.candidates import with_changes
from tools.sweep.git import reason_of
from tools.sweep.plan import merged, open_of, value_of, waiting_of
from tools.sweep.record import Outcome
from tools.sweep.remote import Experiment
from tools.sweep.specification import Grid, Sweep, Uniform

BASE = make_params()
GRID = {"change": {"train.epochs": Grid(grid=[2, 3])}, "search": "grid", "seeds": 2}
DECAY = {"train.decay": Uniform(uniform=[0.2, 0.8])}
TPE = {"change": DECAY, "search": "tpe", "trials": 3}
ROW = {"epoch": 1.0, "validation_accuracy": 0.5, "validation_loss": 1.0}


def make_sweep(**values: Any) -> Sweep:
    base = {"metric": "validation_accuracy", "direction": "maximize"}
    return Sweep.model_validate({**base, "early_stopping": {"grace_period": 1, "reduction_factor": 2}, **values})


def experiment(**changes: Any) -> Experiment:
    values = with_changes(BASE, {name.replace("__", "."): value for name, value in changes.items()})
    return Experiment("rate-0-s0", "a" * 40, flat(values.model_dump()), {}, [ROW])


def test_experiments_on_the_remote_are_done_whoever_ran_them() -> None:
    sweep = make_sweep(**GRID)
    found = {(0, 1): experiment(train__epochs=2, train__seed=1), (1, 0): experiment(train__epochs=3)}
    outcomes = merged("rate", sweep, BASE, {}, found)
    assert {key: (outcome.ended, outcome.changes) for key, outcome in outcomes.items()} == {
        (0, 1): ("finished", {"train.epochs": 2}),
        (1, 0): ("finished", {"train.epochs": 3}),
    }
    assert [(trial.number, trial.seed) for trial in waiting_of(sweep, outcomes)] == [(0, 0), (1, 1)]


def test_what_was_recorded_as_finished_and_is_not_on_the_remote_runs_again() -> None:
    sweep = make_sweep(**GRID)
    recorded = {
        (0, 0): Outcome(ended="finished", changes={"train.epochs": 2}, history=[ROW], spans=[(1.0, 6.0)]),
        (0, 1): Outcome(ended="stopped", changes={"train.epochs": 2}, history=[ROW]),
        (1, 0): Outcome(ended="failed", changes={"train.epochs": 9}, reason="of an earlier file"),
    }
    outcomes = merged("rate", sweep, BASE, recorded, {})
    assert outcomes == {(0, 1): recorded[0, 1]}
    kept = merged("rate", sweep, BASE, recorded, {(0, 0): experiment(train__epochs=2)})
    assert kept[0, 0].seconds == 5.0


@pytest.mark.parametrize("early", ["none", {"grace_period": 2, "reduction_factor": 2}])
def test_a_trial_runs_again_that_the_sweep_would_no_longer_have_stopped(early: Any) -> None:
    recorded = {(1, 0): Outcome(ended="stopped", changes={"train.decay": 0.4}, history=[ROW])}
    sweep = make_sweep(**TPE)
    assert waiting_of(sweep, merged("rate", sweep, BASE, recorded, {})) == []
    sweep = make_sweep(**TPE, early_stopping=early)
    outcomes = merged("rate", sweep, BASE, recorded, {})
    assert [(trial.number, trial.changes) for trial in waiting_of(sweep, outcomes)] == [(1, {"train.decay": 0.4})]


def test_an_experiment_with_other_parameters_is_refused_with_the_command_that_helps() -> None:
    with pytest.raises(InputError) as refused:
        merged("rate", make_sweep(**GRID), BASE, {}, {(0, 0): experiment(train__epochs=5)})
    assert str(refused.value) == (
        "origin has an experiment rate-0-s0 with other parameters: train.epochs is 5 there, expected 2; rename the "
        "sweep's file, or remove it with `dvc exp remove --git-remote origin rate-0-s0` and `dvc exp remove rate-0-s0`"
    )


def test_experiments_of_a_larger_sweep_of_this_name_are_left_out() -> None:
    found = {(0, 5): experiment(train__epochs=2, train__seed=5), (7, 0): experiment(train__epochs=9)}
    assert merged("rate", make_sweep(**GRID), BASE, {}, found) == {}


def test_what_a_larger_sweep_of_this_name_recorded_is_left_out() -> None:
    sweep = make_sweep(**GRID)
    recorded = {
        (0, 2): Outcome(ended="stopped", changes={"train.epochs": 2}, history=[ROW]),
        (2, 0): Outcome(changes={"train.epochs": 9}),
    }
    assert merged("rate", sweep, BASE, recorded, {}) == {}


def test_tpe_goes_on_with_what_was_suggested_and_suggests_the_rest() -> None:
    sweep = make_sweep(**TPE)
    recorded = {(1, 0): Outcome(changes={"train.decay": 0.4})}
    outcomes = merged("rate", sweep, BASE, recorded, {(0, 0): experiment(train__decay=0.3)})
    assert outcomes[0, 0].changes == {"train.decay": 0.3}
    assert [(trial.number, trial.changes) for trial in waiting_of(sweep, outcomes)] == [(1, {"train.decay": 0.4})]
    assert open_of(sweep, outcomes) == 1
    fewer = sweep.model_copy(update={"trials": 1})
    assert open_of(fewer, merged("rate", fewer, BASE, outcomes, {(0, 0): experiment(train__decay=0.3)})) == 0


def test_tpe_leaves_out_what_an_earlier_file_of_the_sweep_recorded() -> None:
    sweep = make_sweep(change={**DECAY, "train.epochs": 3}, search="tpe", trials=3)
    recorded = {
        (0, 0): Outcome(ended="stopped", changes={"train.decay": 0.4, "train.epochs": 3}, history=[ROW]),
        (1, 0): Outcome(ended="stopped", changes={"train.decay": 0.4, "train.epochs": 2}, history=[ROW]),
        (2, 0): Outcome(ended="failed", changes={"train.decay": 0.9, "train.epochs": 3}),
        (3, 0): Outcome(ended="failed", changes={"train.decay": 0.4}),
        (4, 0): Outcome(ended="failed", changes={"train.decay": 0.4, "train.epochs": 3, "train.warmup": 0.1}),
    }
    assert merged("rate", sweep, BASE, recorded, {}).keys() == {(0, 0)}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"train__decay": 0.3, "train__epochs": 2}, "train.epochs is 2 there, expected 3"),
        ({"train__decay": 0.9, "train__epochs": 3}, "train.decay is 0.9 there, expected uniform [0.2, 0.8]"),
        ({"train__decay": 0.3, "train__epochs": 3, "train__seed": 1}, "train.seed is 1 there, expected 0"),
    ],
)
def test_an_experiment_that_tpe_would_not_suggest_now_is_refused(changes: dict[str, Any], fault: str) -> None:
    sweep = make_sweep(change={**DECAY, "train.epochs": 3}, search="tpe", trials=3)
    with pytest.raises(InputError, match=re.escape(f"rate-0-s0 with other parameters: {fault}; rename")):
        merged("rate", sweep, BASE, {}, {(0, 0): experiment(**changes)})


def test_all_seeds_of_a_candidate_of_tpe_have_its_parameters() -> None:
    sweep = make_sweep(**TPE, seeds=2)
    finished = {(0, 0): experiment(train__decay=0.3)}
    recorded = {(0, 1): Outcome(changes={"train.decay": 0.4})}
    outcomes = merged("rate", sweep, BASE, recorded, finished)
    assert outcomes.keys() == {(0, 0)}
    assert [(trial.key, trial.changes) for trial in waiting_of(sweep, outcomes)] == [((0, 1), {"train.decay": 0.3})]
    finished[0, 1] = experiment(train__decay=0.4, train__seed=1)
    with pytest.raises(InputError, match=r"rate-0-s1 with other parameters: train.decay is 0.4 there, expected 0.3;"):
        merged("rate", sweep, BASE, recorded, finished)


def test_an_experiment_without_a_parameter_is_refused() -> None:
    found = experiment(train__decay=0.3)
    del found.params["train.decay"]
    with pytest.raises(InputError, match=r"train.decay is None there, expected uniform \[0.2, 0.8\];"):
        merged("rate", make_sweep(**TPE), BASE, {}, {(0, 0): found})


def test_a_failed_trial_has_no_value() -> None:
    sweep = make_sweep(**GRID)
    assert value_of(sweep, Outcome(ended="stopped", changes={}, history=[ROW])) == 0.5
    assert value_of(sweep, Outcome(ended="failed", changes={}, history=[ROW])) is None


# The git remote

LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python -m stages.train
    params:
      params.yaml:
        train:
          epochs: 1
"""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A repository with one commit, whose run has one epoch, and with a remote that has it too."""
    clone = Clone(tmp_path / "here")
    (clone.folder / history.PATH).parent.mkdir(parents=True)
    (clone.folder / "dvc.lock").write_text(LOCK)
    history.save([history.Epoch(1, 0.5, 1, 0.5, 1, 0.1)], clone.folder / history.PATH)
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    clone.run("dvc", "init", "--quiet")
    clone.commit("One epoch")
    clone.run("git", "init", "--quiet", "--bare", str(tmp_path / "git"))
    clone.run("git", "remote", "add", "origin", str(tmp_path / "git"))
    clone.run("git", "push", "--quiet", "origin", "main")
    monkeypatch.setattr(remote, "ROOT", clone.folder)
    return clone


def reference(clone: Clone, name: str) -> str:
    head = clone.run("git", "rev-parse", "HEAD").strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def experiments_of(clone: Clone) -> dict[str, str]:
    """Return the commits of the experiments in a clone, by name."""
    listed = clone.run("git", "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps")
    return dict(line.split() for line in listed.splitlines())


def test_only_the_experiments_of_the_trials_that_the_remote_has_are_fetched_and_count(shared: Clone) -> None:
    head = shared.run("git", "rev-parse", "HEAD").strip()
    for name in ("rate-0-s0", "rate-0-s1", "rate-00-s2", "rate-by-hand", "rate-more-0-s0"):
        shared.run("git", "push", "--quiet", "origin", f"HEAD:{reference(shared, name)}")
    found = remote.experiments("rate", head)
    assert found.keys() == {(0, 0), (0, 1)}
    assert found[0, 0].params == {"train.epochs": 1}
    assert found[0, 0].history == [history.Epoch(1, 0.5, 1, 0.5, 1, 0.1)._asdict()]
    assert experiments_of(shared) == {"rate-0-s0": head, "rate-0-s1": head}
    for command in re.findall("`(.*?)`", remote.removal("rate-0-s0")):
        shared.run(*command.split())
    assert remote.experiments("rate", head).keys() == {(0, 1)}


@pytest.mark.parametrize("on_remote", [False, True])
def test_an_experiment_of_this_clone_with_the_name_of_a_trial_is_refused_and_kept(
    on_remote: bool, shared: Clone
) -> None:
    head = shared.run("git", "rev-parse", "HEAD").strip()
    mine = shared.run("git", "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "dvc: commit experiment").strip()
    own = dict.fromkeys(("rate-0-s0", "rate-3-s1", "rate-mine"), mine)
    for name in own:
        shared.run("git", "update-ref", reference(shared, name), mine)
        if on_remote:
            shared.run("git", "push", "--quiet", "origin", f"HEAD:{reference(shared, name)}")
    shared.run("git", "config", "fetch.prune", "true")  # with which git removes what the remote lacks
    with pytest.raises(InputError) as refused:
        remote.experiments("rate", head)
    assert str(refused.value) == (
        "experiments in this clone have names of this sweep's trials, and origin does not have these experiments; "
        "rename the sweep's file, or remove them here with `dvc exp remove rate-0-s0 rate-3-s1`"
    )
    assert experiments_of(shared) == own
    for name in ("rate-0-s0", "rate-3-s1"):
        shared.run("git", "update-ref", "-d", reference(shared, name))
    assert len(remote.experiments("rate", head)) == 2 * on_remote
    assert experiments_of(shared)["rate-mine"] == mine


def test_what_the_storage_lost_of_an_experiment_is_named_with_the_commands_that_help(
    shared: Clone, tmp_path: Path
) -> None:
    shared.run("dvc", "remote", "add", "--default", "storage", "../storage")
    (shared.folder / "dvc.yaml").write_text("stages: {train: {cmd: echo 1 > model, outs: [model]}}")
    shared.run("dvc", "repro", "--quiet")
    shared.commit("A model")
    shared.run("dvc", "push", "--quiet")
    head = shared.run("git", "rev-parse", "HEAD").strip()
    for name in ("rate-0-s0", "rate-0-s1"):
        shared.run("git", "push", "--quiet", "origin", f"HEAD:{reference(shared, name)}")
    experiments = list(remote.experiments("rate", head).values())
    (cached,) = (path for path in (shared.folder / ".dvc/cache/files").rglob("*") if path.is_file())
    cached.unlink()
    remote.pull(experiments)
    assert cached.exists()
    cached.unlink()
    shutil.rmtree(tmp_path / "storage/files")
    with pytest.raises(InputError) as refused:
        remote.pull(experiments)
    both = "rate-0-s0 rate-0-s1"
    assert str(refused.value) == (
        "neither the storage nor the cache here has model of rate-0-s0, model of rate-0-s1; to run these trials again, "
        f"remove the experiments with `dvc exp remove --git-remote origin {both}` and `dvc exp remove {both}`, then "
        "run the same command"
    )


@pytest.mark.parametrize("branch", ["main", "mine"])
def test_a_clone_of_one_branch_finds_its_commit_and_follows_no_other(
    branch: str, shared: Clone, tmp_path: Path
) -> None:
    shared.run("git", "config", "remote.origin.fetch", "+refs/heads/main:refs/remotes/origin/main")
    shared.run("git", "commit", "--quiet", "--allow-empty", "--message", "Mine")
    shared.run("git", "push", "--quiet", "origin", f"HEAD:{branch}")
    other = Clone(tmp_path / "other")
    shared.run("git", "clone", "--quiet", "--branch", branch, str(tmp_path / "git"), str(other.folder))
    for name in (branch, "elsewhere"):
        other.run("git", "commit", "--quiet", "--allow-empty", "--message", "Theirs")
        other.run("git", "push", "--quiet", "origin", f"HEAD:{name}")
    settings = shared.run("git", "config", "--list")
    assert remote.commit() == shared.run("git", "rev-parse", "HEAD").strip()
    assert shared.run("git", "config", "--list") == settings
    listed = shared.run("git", "for-each-ref", "--format=%(refname)").split()
    assert listed == ["refs/heads/main", "refs/remotes/origin/main"]
    if branch == "main":
        elsewhere = other.run("git", "rev-parse", "HEAD").strip()
        shared.run("git", "cat-file", "-e", elsewhere, exit_code=1)  # not even fetched


def test_pictures_that_are_not_committed_are_refused(shared: Clone) -> None:
    (shared.folder / "data/own").mkdir(parents=True)
    (shared.folder / "data/own/3.dvc").touch()
    with pytest.raises(InputError) as refused:
        remote.commit()
    assert str(refused.value) == (
        "data/own/3.dvc: not as in the commit, which the trials run; commit the change, or undo it with `git restore`, "
        "and remove a new file"
    )


def test_a_storage_that_is_not_committed_is_refused(shared: Clone) -> None:
    shared.run("dvc", "remote", "add", "--default", "storage", "s3://bucket/path")
    with pytest.raises(InputError, match=r"^\.dvc/config: not as in the commit, which the trials run;"):
        remote.commit()


def test_trials_get_the_url_of_a_storage_that_this_clone_has_alone(
    shared: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.run("dvc", "remote", "add", "--default", "storage", "../storage")
    shared.run("dvc", "remote", "modify", "--local", "storage", "url", "s3://mine/path")
    monkeypatch.setattr(remote, "try_out", lambda _: None)
    assert remote.storage() == "s3://mine/path"


def test_keys_that_trials_do_not_get_are_named(shared: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.run("dvc", "remote", "add", "--default", "storage", "s3://team/mnist")
    remote.check_keys()
    for name, variable in (("access_key_id", "AWS_ACCESS_KEY_ID"), ("secret_access_key", "AWS_SECRET_ACCESS_KEY")):
        shared.run("dvc", "remote", "modify", "--local", "storage", name, "secret")
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InputError) as refused:
        remote.check_keys()
    assert str(refused.value) == (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: not set; trials read the keys of the storage from these variables, "
        "and not from .dvc/config.local; export them, and run this again"
    )
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "secret")
    remote.check_keys()


def test_an_experiment_with_the_name_that_is_tried_out_does_not_matter(shared: Clone) -> None:
    head = shared.run("git", "rev-parse", "HEAD").strip()
    made = shared.run("git", "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "dvc: commit experiment").strip()
    reference = f"refs/exps/{head[:2]}/{head[2:]}/sweep"
    shared.run("git", "push", "--quiet", "origin", f"{made}:{reference}")
    assert remote.commit() == head
    assert shared.run("git", "ls-remote", "origin", reference).split()[0] == made


def test_no_hook_runs_where_nothing_is_pushed(shared: Clone) -> None:
    hook = shared.folder / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert remote.commit() == shared.run("git", "rev-parse", "HEAD").strip()


def test_why_git_failed_is_said_without_its_advice(shared: Clone) -> None:
    shared.run("git", "remote", "set-url", "origin", "../nowhere")
    with pytest.raises(InputError) as failed:
        remote.experiments("rate", "a" * 40)
    assert str(failed.value) == (
        "git ls-remote: fatal: '../nowhere' does not appear to be a git repository fatal: Could not read from remote "
        "repository."
    )
    assert reason_of("To ../git\n ! [rejected] a -> b\nhint: Updates were rejected\nhint: because\n") == (
        "To ../git ! [rejected] a -> b"
    )
    assert reason_of("\n") == "no message"


COMMIT = """
from stages.errors import one_line_errors
from tools.sweep import remote
with one_line_errors():
    print(remote.commit())
"""


def test_trials_run_a_commit_that_the_remote_has(clone: Clone) -> None:
    def fault() -> str:
        return error_of(clone.run("python", "-c", COMMIT, exit_code=1))

    clone.run("git", "init", "--quiet", "--bare", str(clone.folder.parent / "git"))
    clone.run("git", "remote", "add", "origin", str(clone.folder.parent / "git"))
    head = clone.run("git", "rev-parse", "HEAD").strip()
    assert fault() == f"error: origin lacks the commit {head[:10]}, which the trials run; `git push` brings it there"
    clone.run("git", "push", "--quiet", "origin", "main")
    assert clone.run("python", "-c", COMMIT).strip() == head
    (clone.folder / "README.md").write_text("changed")
    assert clone.run("python", "-c", COMMIT).strip() == head
    with (clone.folder / "params.yaml").open("a") as file:
        file.write("\n")
    assert fault().startswith("error: params.yaml: not as in the commit, which the trials run; commit the change")
