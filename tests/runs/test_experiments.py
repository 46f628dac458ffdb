"""All runs of a repository, read in one go."""

import pytest

from stages.errors import InputError
from tests.clones import Clone
from tests.experiments import add_all
from tools.runs import lock, run
from tools.runs.experiments import load_all, without_files
from tools.runs.revision import resolve


def test_every_run_is_read_as_a_single_one_is(clone: Clone) -> None:
    clone.run("git", "tag", "--annotate", "--message=v", "lstm@v1.0.0")
    add_all(clone, {"older": (0.5, {"epochs": 3}), "newer": (0.75, {"seed": 5, "learning_rate": 1e-05})})
    entries, faults = load_all(clone.folder)
    assert faults == []
    assert [entry.name for entry in entries] == ["HEAD", "lstm@v1.0.0", "newer", "older"]
    assert [entry.about.kind for entry in entries] == ["commit", "commit", "experiment", "experiment"]
    head = run.load(resolve("HEAD", clone.folder))
    for entry in entries[:2]:
        assert (entry.params, entry.report) == (head.params, head.report)
        assert entry.history.equals(head.history)
    newer, older = entries[2:]
    assert (newer.params["train.seed"], newer.params["train.learning_rate"]) == (5, 1e-05)
    assert older.params == {**head.params, "train.epochs": 3}
    assert len(older.history) == 3
    # What a run is made of: code, requirements and data, but not what it made.
    names = {path for path, _ in newer.made_of}
    assert {"stages/train.py", "requirements.txt", "data/processed/test.npz"} < names
    assert not {"models/lstm.keras", "reports/history.csv"} & names
    assert newer.made_of == older.made_of


def test_experiments_of_one_name_have_names_that_git_tells_apart(clone: Clone) -> None:
    for message in ("Second", "Third"):
        clone.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
        clone.run("dvc", "exp", "save", "--name", "try", "--force")
    clone.run("dvc", "exp", "save", "--name", "once", "--force")
    entries, _ = load_all(clone.folder)
    found = {entry.name: entry.about.commit for entry in entries if entry.about.kind == "experiment"}
    assert len(found) == 3
    assert "once" in found
    for name, commit in found.items():
        assert resolve(name, clone.folder).commit == commit
        assert name == "once" or name.startswith(f"try-0-g{commit[:7]}")


def test_the_run_here_is_the_first_and_what_cannot_be_read_is_named(clone: Clone) -> None:
    add_all(clone, {"fine": (0.5, {})})
    clone.run("git", "rm", "--quiet", "reports/history.csv")
    clone.commit("No history")
    clone.run("git", "checkout", "--quiet", "HEAD~1", "--", "reports/history.csv")
    entries, faults = load_all(clone.folder)
    assert [entry.name for entry in entries] == ["workspace (not committed)", "fine"]
    assert faults == ["HEAD: reports/history.csv: there is no such file"]


def test_a_version_from_before_the_project_was_moved_is_named(clone: Clone) -> None:
    clone.run("git", "tag", "--annotate", "--message=v", "lstm@v1.0.0")
    moved = clone.folder / "models" / "digits"
    names = [path.name for path in clone.folder.iterdir() if path.name not in (".git", "models")]
    moved.mkdir()
    for name in names:
        (clone.folder / name).rename(moved / name)
    clone.commit("Moved")
    entries, faults = load_all(moved)
    assert [entry.name for entry in entries] == ["HEAD"]
    assert faults == ["lstm@v1.0.0: dvc.lock: there is no such file"]


def test_only_the_lists_of_files_are_left_out_of_a_lock(clone: Clone) -> None:
    text = (clone.folder / "dvc.lock").read_text().replace("  train:\n", "  train-long@a b:\n", 1)
    less = without_files(text)
    assert len(less) < len(text) / 4
    assert lock.parse(less, "dvc.lock").params == lock.parse(text, "dvc.lock").params
    assert lock.parse(less, "dvc.lock").hashes == {}
    with pytest.raises(InputError, match="found the alias"):
        lock.parse(without_files("stages:\n  train: &a\n    params: *a\n"), "dvc.lock")
