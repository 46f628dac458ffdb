import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from stages import environment, predictions, report
from stages.errors import InputError
from tests.clones import Clone, error_of
from tests.images import save_stroke
from tests.runs.test_lock import LAUGHS
from tools import ROOT, md5_of
from tools.runs import run
from tools.runs.about import describe, in_order
from tools.runs.paired import compare_revisions
from tools.runs.revision import LIMIT, read, read_bytes, read_lock, read_text, remove_clones, resolve, workspace
from tools.runs.run import current


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


def test_experiments_with_one_name_are_told_apart_by_their_commits(clone: Clone) -> None:
    found = []
    for message in ("Second", "Third"):
        clone.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
        clone.run("dvc", "exp", "save", "--name", "tried", "--force")
        found.append(
            clone.run("git", "rev-parse", f"refs/exps/{head_of(clone)[:2]}/{head_of(clone)[2:]}/tried").strip()
        )
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "Fourth")
    with pytest.raises(InputError, match="tried: 2 experiments of different commits have this name") as refused:
        resolve("tried", clone.folder)
    assert set(str(refused.value).split(": ")[-1].split(" or ")) == {commit[:10] for commit in found}
    assert [resolve(commit[:10], clone.folder).commit for commit in found] == found


def test_a_reference_that_is_no_experiment_is_named_with_the_command_that_removes_it(clone: Clone) -> None:
    reference = "refs/exps/12/345/<b>x</b>"
    clone.run("git", "update-ref", reference, "HEAD")
    with pytest.raises(InputError) as refused:
        resolve("better", clone.folder)
    assert str(refused.value).startswith(f"{reference}: no name of an experiment; ")
    command = re.search("`(.*)`", str(refused.value))
    assert command
    clone.run("sh", "-c", command[1])
    with pytest.raises(InputError, match="better: no commit, branch, tag or experiment here"):
        resolve("better", clone.folder)


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


def test_the_files_of_the_workspace_are_read_where_they_differ_from_head(clone: Clone) -> None:
    here = workspace(clone.folder)
    assert current(clone.folder) == resolve("HEAD", clone.folder)
    assert {path: read_bytes(here, path) for path in clone.content()} == clone.content()
    with (clone.folder / "params.yaml").open("a") as file:
        file.write("# as it was\n")
    assert current(clone.folder) == here
    assert read_text(here, "params.yaml").endswith("# as it was\n")
    assert (str(here), here.place) == ("workspace (not committed)", "in the workspace")
    clone.run("git", "restore", "params.yaml")
    # What is not in the folder comes from the cache.
    model = (clone.folder / "models/lstm.keras").read_bytes()
    (clone.folder / "models/lstm.keras").unlink()
    assert read_bytes(here, "models/lstm.keras") == model
    assert current(clone.folder) == resolve("HEAD", clone.folder)
    with (clone.folder / "reports/metrics.json").open("a") as file:
        file.write("\n")
    with pytest.raises(
        InputError, match=r"metrics\.json in the workspace: not the file that dvc\.lock names: a run is "
    ):
        read_bytes(here, "reports/metrics.json")


def test_a_revision_is_described_and_the_older_of_two_is_known(clone: Clone) -> None:
    first = resolve("first", clone.folder)
    about = describe(first)
    assert (about.kind, about.subject, about.author) == ("commit", "First run", "A")
    assert str(about).startswith(f"commit {first.commit[:10]} “First run”, A, ")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "Second")
    # As DVC keeps an experiment.
    later = clone.run("git", "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "dvc: commit experiment 1",
                      GIT_COMMITTER_DATE="2040-01-01T00:00:00 +0000").strip()  # fmt: skip
    clone.run("git", "update-ref", f"refs/exps/{first.commit[:2]}/{first.commit[2:]}/two-epochs", later)
    experiment, second = resolve("two-epochs", clone.folder), resolve("HEAD", clone.folder)
    assert str(describe(experiment)) == f"experiment {later[:10]} on “Second”, A, 1 January 2040, 00:00"
    here = workspace(clone.folder)
    assert str(describe(here)).startswith(f"not committed, on top of {second.commit[:10]} “Second”, ")
    ordered = [first, second, experiment, here]
    for older, newer in itertools.combinations(ordered, 2):
        assert in_order(older, newer) == in_order(newer, older) == (older, newer)


def test_what_is_missing_is_named(clone: Clone) -> None:
    (clone.folder / ".dvc/cache").rename(clone.folder / ".dvc/elsewhere")
    first = resolve("first", clone.folder)
    check_out = f"git checkout {first.commit[:10]} &&"
    with pytest.raises(
        InputError,
        match=r"models/lstm\.keras at first: neither in the cache nor in the storage; "
        f"`{check_out} dvc push` in a clone that has it shares it; `{check_out} make repro` makes it here",
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


def test_a_damaged_object_in_the_cache_is_read_from_the_storage(clone: Clone) -> None:
    clone.run("dvc", "push", "models/lstm.keras")
    whole = (clone.folder / "models/lstm.keras").read_bytes()
    hash_ = md5_of(whole)
    damaged = clone.folder / ".dvc/cache/files/md5" / hash_[:2] / hash_[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(whole[:-1] + b"?")
    assert read_bytes(resolve("HEAD", clone.folder), "models/lstm.keras") == whole


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


# What comes from elsewhere


@pytest.fixture
def recorded(tmp_path: Path) -> Clone:
    """A commit of this repository's own files, without data and models: what a stranger's branch starts from."""
    clone = Clone(tmp_path / "recorded")
    for name in Clone(ROOT).run("git", "ls-files", "-z").split("\0")[:-1]:
        if (ROOT / name).exists():
            (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone.folder / name)
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    clone.commit("A run")
    return clone


def commit_hostile(clone: Clone, path: str, content: str) -> None:
    """Commit a file as if the run had made it."""
    file = clone.folder / path
    old = hashlib.md5(file.read_bytes()).hexdigest()  # noqa: S324 - DVC's choice
    file.write_text(content)
    lock = clone.folder / "dvc.lock"
    if path != "dvc.lock":
        new = hashlib.md5(content.encode()).hexdigest()  # noqa: S324 - DVC's choice
        lock.write_text(lock.read_text().replace(old, new))
    clone.commit("Hostile")


def refused(clone: Clone) -> str:
    with pytest.raises(InputError) as error:
        run.load(resolve("main", clone.folder))
    line = str(error.value)
    assert len(line) < 1_000
    return line


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("dvc.lock", LAUGHS, "dvc.lock at main: not readable as YAML: line 2: expected values, found the alias *a0"),
        ("dvc.lock", "stages: &x {a: *x}", "dvc.lock at main: not readable as YAML: line 1: expected values"),
        ("dvc.lock", "stages: {train: null}", "dvc.lock at main: records no run: stages.train: "),
        ("dvc.lock", "x" * 50_000_000, "dvc.lock at main: expected at most 128,000 bytes, found more"),
        ("reports/metrics.json", "[" * 100_000, "reports/metrics.json at main: the whole file: "),
        ("reports/metrics.json", '{"test": ' * 100_000, "reports/metrics.json at main: the whole file: "),
        ("reports/predictions.csv", "0" * (LIMIT + 1), "reports/predictions.csv at main: expected at most 67,108,864 "),
        (
            "reports/predictions.csv",
            "a," * 1_000_000,
            "reports/predictions.csv at main: not a table: expected at most 100 columns",
        ),
        (
            "reports/predictions.csv",
            "\na,b\n" + "," * 1_000_000,
            "reports/predictions.csv at main: not a table: expected at most 100 columns",
        ),
        ("reports/history.csv", '"' * 1_000_000, "reports/history.csv at main: "),
    ],
    ids=lambda value: value[:40],
)
def test_a_hostile_file_of_a_commit_is_one_line(path: str, content: str, message: str, recorded: Clone) -> None:
    commit_hostile(recorded, path, content)
    assert refused(recorded).startswith(message)


def test_hostile_json_is_one_line_for_each_owner() -> None:
    for parse in (report.parse, environment.parse):
        for text in ("[" * 100_000, '{"a":' * 100_000, "1" * 100_000, '"\\ud800"', "nan", "{}" * 10):
            with pytest.raises(InputError, match="theirs: "):
                parse(text, "theirs")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "pipeline", [f"{LAUGHS}stages: *a9\n", "stages: &x [*x]", "[" * 1_000, "stages: null", "x" * 50_000_000, "\0"],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_the_pipeline_of_a_commit_is_not_read(pipeline: str, recorded: Clone) -> None:
    (recorded.folder / "dvc.yaml").write_text(pipeline)
    (recorded.folder / "params.yaml").write_text(pipeline)
    (recorded.folder / "more").mkdir()
    (recorded.folder / "more/dvc.yaml").write_text(pipeline)
    (recorded.folder / "more/data.dvc").write_text(pipeline)
    recorded.commit("Hostile")
    assert run.load(resolve("main", recorded.folder)).report.test.accuracy > 0.9


@pytest.mark.timeout(240)
def test_each_tool_refuses_a_hostile_commit_in_one_line(recorded: Clone) -> None:
    recorded.run("git", "switch", "--quiet", "--create", "theirs")
    (recorded.folder / "dvc.yaml").write_text(LAUGHS)
    (recorded.folder / "dvc.lock").write_text(LAUGHS)
    recorded.commit("Hostile")
    recorded.run("git", "switch", "--quiet", "main")
    with pytest.raises(InputError, match="found the alias"):
        compare_revisions(*(resolve(name, recorded.folder) for name in ("main", "theirs")))
    save_stroke(recorded.folder / "picture.png")
    for tool in (
        ["pages.compare", "main", "theirs"],
        ["pages.report", "theirs"],
        ["predict", "picture.png", "--model=theirs"],
        ["verify", "--rev=theirs"],
    ):
        assert "found the alias" in error_of(recorded.run("python", "-m", f"tools.{tool[0]}", *tool[1:], exit_code=1))


def test_a_folder_in_the_place_of_a_file_is_refused(recorded: Clone) -> None:
    metrics = recorded.folder / "reports/metrics.json"
    metrics.unlink()
    metrics.mkdir()
    (metrics / "a").touch()
    recorded.commit("Hostile")
    assert refused(recorded) == "reports/metrics.json at main: expected a file, found a tree"


@pytest.mark.parametrize("name", ["HEAD^{tree}", "HEAD:README.md", "blob", "", "--all", "HEAD..HEAD~1", "^HEAD"])
def test_what_is_no_commit_is_refused(name: str, recorded: Clone) -> None:
    blob = recorded.run("git", "rev-parse", "HEAD:README.md").strip()
    recorded.run("git", "tag", "blob", blob)
    with pytest.raises(InputError, match=f"^{re.escape(name)}: (no commit|expected a commit, found a file)"):
        resolve(name, recorded.folder)


# Clones that hold less, or belong to others


def test_a_shallow_clone_is_told_to_get_the_rest(recorded: Clone, tmp_path: Path) -> None:
    recorded.run("git", "commit", "--quiet", "--allow-empty", "--message", "Second")
    recorded.run("git", "tag", "--annotate", "--message=v", "lstm@v1.0.0", "HEAD~1")
    shallow = Clone(tmp_path / "shallow")
    recorded.run("git", "clone", "--quiet", "--depth=1", recorded.folder.as_uri(), str(shallow.folder))
    for name in ("HEAD~1", "lstm@v1.0.0", "lstm@prod"):
        with pytest.raises(InputError, match=r"this clone is shallow, `git fetch --unshallow --tags`"):
            resolve(name, shallow.folder)
    shallow.run("git", "fetch", "--quiet", "--unshallow", "--tags")
    assert resolve("HEAD~1", shallow.folder).commit == resolve("lstm@v1.0.0", shallow.folder).commit
    with pytest.raises(InputError, match=r"here; `git fetch --tags`"):
        resolve("lstm@prod", shallow.folder)


@pytest.mark.parametrize("kind", ["blob:none", "tree:0"])
def test_a_partial_clone_is_told_to_get_the_rest(kind: str, recorded: Clone, tmp_path: Path) -> None:
    metrics = recorded.folder / "reports/metrics.json"
    metrics.write_text(metrics.read_text() + "\n")
    recorded.commit("Second")
    recorded.run("git", "config", "uploadpack.allowFilter", "true")
    partial = Clone(tmp_path / "partial")
    recorded.run("git", "clone", "--quiet", f"--filter={kind}", recorded.folder.as_uri(), str(partial.folder))
    with pytest.raises(
        InputError, match=r"partial: this clone lacks an object .*`git fetch --refetch --no-filter` gets"
    ):
        read(resolve("HEAD~1", partial.folder), report.PATH, report.parse)
    partial.run("git", "fetch", "--quiet", "--refetch", "--no-filter")
    assert read(resolve("HEAD~1", partial.folder), report.PATH, report.parse).test.accuracy > 0.9


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_clone_of_another_user_is_named_with_what_git_asks_for(recorded: Clone, tmp_path: Path) -> None:
    save_stroke(recorded.folder / "picture.png")
    for path in (recorded.folder, *recorded.folder.rglob("*")):
        os.chown(path, 65_534, 65_534)
    del recorded.environment["GIT_CONFIG_GLOBAL"]
    recorded.environment["HOME"] = str(tmp_path)
    for tool in (
        ["pages.report", "HEAD"],
        ["verify"],
        ["predict", "picture.png", "--model=HEAD"],
        ["storage.repair"],
    ):
        line = error_of(recorded.run("python", "-m", f"tools.{tool[0]}", *tool[1:], exit_code=1))
        remedy = f"git config --global --add safe.directory {recorded.folder}"
        assert line == f"error: {recorded.folder}: it belongs to another user; `{remedy}` makes git read it"
    recorded.run("sh", "-c", remedy)
    line = error_of(recorded.run("python", "-m", "tools.pages.compare", exit_code=1))
    assert "HEAD is the commit of the current run" in line


def test_a_clone_of_a_url_or_a_bare_repository_goes_away(
    recorded: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare.git"
    recorded.run("git", "clone", "--quiet", "--bare", ".", str(bare))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for repo in (recorded.folder.as_uri(), str(bare)):
        assert read(resolve("main", repo), report.PATH, report.parse).test.accuracy > 0.9
        assert len(list(temporary.iterdir())) == 1
        remove_clones()
        assert not list(temporary.iterdir())
    code = f"from tools.runs.revision import resolve\nprint(resolve('main', {recorded.folder.as_uri()!r}).commit)"
    assert recorded.run("python", "-c", code, TMPDIR=str(temporary)) == recorded.run("git", "rev-parse", "main")
    assert not list(temporary.iterdir())


def test_a_url_of_nothing_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(InputError, match=r"none: not readable as a git repository with DVC: SCM error: .*none"):
        resolve("main", "file:///nowhere/none")
    with pytest.raises(InputError, match=r"Connection refused$"):
        resolve("main", "https://127.0.0.1:1/none")
    remove_clones()
    assert not list(tmp_path.iterdir())
