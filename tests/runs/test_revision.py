import hashlib
import json
from pathlib import Path

import pytest

from stages import predictions
from stages.errors import InputError
from tests.clones import Clone
from tools.runs.paired import compare_revisions
from tools.runs.revision import read, read_bytes, read_lock, read_text, resolve


def head_of(clone: Clone) -> str:
    return clone.run("git", "rev-parse", "HEAD").strip()


def change(clone: Clone, path: str, old: str, new: str) -> None:
    file = clone.folder / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def test_every_kind_of_name_is_found(clone: Clone) -> None:
    first = head_of(clone)
    clone.run("dvc", "exp", "save", "--name", "tried", "--force")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "Second")
    second = head_of(clone)
    clone.run("gto", "register", "lstm", "first", "--version", "v1.0.0")
    clone.run("gto", "register", "lstm", second, "--version", "v1.10.0")
    clone.run("gto", "assign", "lstm", "--version", "v1.0.0", "--stage", "prod")
    experiment = clone.run("git", "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/tried").strip()
    for name, commit in {
        "HEAD": second, "HEAD~1": first, second[:8]: second, "main": second, "first": first,
        "tried": experiment, "lstm@v1.0.0": first, "lstm@v1.10.0": second, "lstm@prod": first,
    }.items():  # fmt: skip
        found = resolve(name, clone.folder)
        assert (found.name, found.commit) == (name, commit)
        assert str(found) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nothing",
            r"nothing: no commit, branch, tag or experiment here; `git fetch --tags` .*`dvc exp pull origin noth",
        ),
        ("--help", "no commit"),
        ("lstm@v9.9.9", r"v9\.9\.9: no registered version; found none; `git fetch --tags`"),
        ("lstm@prod", r"lstm@prod: no version holds the stage prod here; `git fetch --tags`"),
    ],
)
def test_a_name_of_nothing_comes_with_the_command_that_gets_it(name: str, message: str, clone: Clone) -> None:
    with pytest.raises(InputError, match=message):
        resolve(name, clone.folder)


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not readable as a git repository with DVC"):
        resolve("HEAD", tmp_path)


def test_the_files_of_a_revision_are_read_whatever_the_workspace_holds(clone: Clone) -> None:
    before = clone.content()
    params = read_text(resolve("first", clone.folder), "params.yaml")
    assert params == (clone.folder / "params.yaml").read_text()
    change(clone, "params.yaml", "epochs: 2", "epochs: 3")
    for path in before:
        (clone.folder / path).unlink()
    clone.commit("Nothing left")
    first = resolve("first", clone.folder)
    assert read_text(first, "params.yaml") == params
    read = {path: read_bytes(first, path) for path in before}
    assert read == before
    files = {path: content for path, content in before.items() if not path.startswith("data/raw/")}
    assert {path: hashlib.md5(content).hexdigest() for path, content in files.items()} == {  # noqa: S324 - DVC's choice
        path: hash_ for path, hash_ in read_lock(first).hashes.items() if path != "data/raw"
    }


def test_what_is_not_in_the_cache_is_read_from_the_storage(clone: Clone) -> None:
    model = (clone.folder / "models/lstm.keras").read_bytes()
    clone.run("dvc", "push")
    (clone.folder / ".dvc/cache").rename(clone.folder / ".dvc/elsewhere")
    assert read_bytes(resolve("first", clone.folder), "models/lstm.keras") == model


def test_what_is_missing_is_named(clone: Clone) -> None:
    (clone.folder / ".dvc/cache").rename(clone.folder / ".dvc/elsewhere")
    first = resolve("first", clone.folder)
    with pytest.raises(
        InputError,
        match=r"models/lstm\.keras at first: neither in the cache nor in the storage; .*`dvc push --all-commits m",
    ):
        read_bytes(first, "models/lstm.keras")
    with pytest.raises(InputError, match="docs/none: there is no such file at first"):
        read_bytes(first, "docs/none")
    clone.run("git", "rm", "--quiet", "reports/metrics.json")
    clone.commit("No metrics")
    with pytest.raises(
        InputError,
        match=r"reports/metrics\.json at HEAD: not in the commit, .*check it out, run `dvc repro` and commit",
    ):
        read_text(resolve("HEAD", clone.folder), "reports/metrics.json")
    clone.run("git", "rm", "--quiet", "dvc.lock")
    clone.commit("No run")
    with pytest.raises(InputError, match=r"HEAD has no dvc\.lock, so no run; check it out, run `dvc repro`"):
        read_text(resolve("HEAD", clone.folder), "dvc.lock")


def test_a_damaged_object_is_noticed_and_named(clone: Clone) -> None:
    first = resolve("first", clone.folder)
    hash_ = read_lock(first).hashes["models/lstm.keras"]
    damaged = clone.folder / ".dvc/cache/files/md5" / hash_[:2] / hash_[2:]
    content = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(content[:-1] + b"?")
    with pytest.raises(
        InputError, match=rf"models/lstm\.keras at first: .* MD5 {hash_}.* remove files/md5/{hash_[:2]}/"
    ):
        read_bytes(first, "models/lstm.keras")


def test_reports_of_another_run_are_noticed(clone: Clone) -> None:
    change(clone, "reports/predictions.csv", ",0.", ",0.0")
    clone.commit("Mixed")
    with pytest.raises(InputError, match=r"reports/predictions\.csv at HEAD: .* the commit mixes two runs"):
        read(resolve("HEAD", clone.folder), predictions.PATH, predictions.parse)


@pytest.mark.parametrize(
    ("content", "message"),
    [(": [", "not readable as YAML"), ("[]", "records no run"), ("stages: 1", "records no run: stages: Input")],
)
def test_a_damaged_lock_is_named(content: str, message: str, clone: Clone) -> None:
    (clone.folder / "dvc.lock").write_text(content)
    clone.commit("Damaged")
    with pytest.raises(InputError, match=rf"dvc\.lock at main: {message}"):
        read_lock(resolve("main", clone.folder))


def test_the_predictions_of_two_revisions_are_compared(clone: Clone) -> None:
    metrics = json.loads((clone.folder / "reports/metrics.json").read_text())
    first = resolve("first", clone.folder)
    table = read(first, predictions.PATH, predictions.parse)
    assert len(table) == sum(row["images"] for row in metrics["test"]["per_class"])
    assert (table["actual"] != table["predicted"]).sum() == metrics["test"]["errors"]
    same = compare_revisions(first, resolve("main", clone.folder))
    assert (same.images, same.fixed, same.broken) == (len(table), 0, 0)


def test_other_test_images_are_not_compared(clone: Clone) -> None:
    change(clone, "dvc.lock", read_lock(resolve("first", clone.folder)).hashes["data/processed/test.npz"], "f" * 32)
    clone.commit("Other images")
    with pytest.raises(InputError, match=r"first and main were tested on other images .* the same section `prepare`"):
        compare_revisions(*(resolve(name, clone.folder) for name in ("first", "main")))


def commit_predictions(clone: Clone, content: str) -> None:
    expected = read_lock(resolve("first", clone.folder)).hashes["reports/predictions.csv"]
    (clone.folder / "reports/predictions.csv").write_text(content)
    change(clone, "dvc.lock", expected, hashlib.md5(content.encode()).hexdigest())  # noqa: S324 - DVC's choice
    clone.commit("Other predictions")


def test_predictions_of_other_digits_for_the_same_images_are_not_compared(clone: Clone) -> None:
    commit_predictions(clone, "index,actual,predicted,confidence\n0,1,1,1\n")
    with pytest.raises(
        InputError, match=r"predictions\.csv of first and main are of other digits, though data/processed/t"
    ):
        compare_revisions(*(resolve(name, clone.folder) for name in ("first", "main")))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a,b\n1,2\n", "1 rows of a, b"),
        ("", "not a table"),
        ("index,actual,predicted,confidence\n", "0 rows"),
        ("index,actual,predicted,confidence\n0,1,12,1\n", "other values in 1 rows"),
        ("index,actual,predicted,confidence\n0,1,2.0,1\n", "1 rows"),
        ("index,actual,predicted,confidence\n1,1,2,1\n0,1,1,1\n", "2 rows"),
        ("index,actual,predicted,confidence\n0,1,2,1.5\n", "1 rows"),
        ("index,actual,predicted,confidence\n0,1,2,sure\n", "1 rows"),
    ],
)
def test_predictions_of_another_form_are_refused(content: str, found: str, clone: Clone) -> None:
    commit_predictions(clone, content)
    with pytest.raises(InputError, match=rf"reports/predictions\.csv at main: .*{found}"):
        read(resolve("main", clone.folder), predictions.PATH, predictions.parse)
