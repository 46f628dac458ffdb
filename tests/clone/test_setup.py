import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clones import Clone, error_of
from tools import ROOT
from tools.clone.setup import CALL, TRACKED_HOOKS

HOOKS = [
    *("applypatch-msg", "commit-msg", "fsmonitor-watchman", "post-applypatch", "post-checkout", "post-commit"),
    *("post-index-change", "post-merge", "post-rewrite", "pre-applypatch", "pre-auto-gc", "pre-commit"),
    *("pre-merge-commit", "pre-push", "pre-rebase", "prepare-commit-msg", "push-to-checkout", "reference-transaction"),
]


@pytest.fixture
def fresh(tmp_path: Path) -> Clone:
    """A repository of the tools alone, as `git clone` leaves one."""
    clone = Clone(tmp_path / "clone")
    copy_code(clone.folder)
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    return clone


def copy_code(folder: Path) -> None:
    for name in ("tools", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitattributes", folder)


def setup(clone: Clone, exit_code: int = 0, **variables: str) -> str:
    return clone.run("python", "-m", "tools.clone.setup", exit_code=exit_code, **variables)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [*(folder / "hooks").glob("pre-push"), folder / "config", *(folder / "mnist-lstm").glob("*")]
    return {str(path): (path.read_bytes(), path.stat().st_mode) for path in files}


def report_instead(clone: Clone) -> None:
    """Commit a check that tells where it runs and what it reads."""
    (clone.folder / "tools/storage/check.py").write_text(
        "import os, sys\nprint('checked', sys.argv[1:], os.getcwd(), sys.stdin.read().split()[0], file=sys.stderr)\n"
    )


def push(clone: Clone, destination: Path, branch: str) -> str:
    """Push, and return what was said; the limit is for git, which may wait for ever for a hook that does not run."""
    if not destination.exists():
        clone.run("git", "init", "--quiet", "--bare", str(destination))
    done = subprocess.run(
        ["git", "push", "--quiet", str(destination), branch],
        cwd=clone.folder, env=clone.environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stderr


def test_twice_changes_nothing(fresh: Clone) -> None:
    printed = setup(fresh)
    assert "before a push git runs" in printed
    assert "of the branch that you are on" in printed
    before = content(fresh.folder / ".git")
    assert len(before) == 6
    assert setup(fresh) == "nothing to do\n"
    assert content(fresh.folder / ".git") == before


def test_a_push_runs_the_check_of_the_branch_that_is_checked_out(fresh: Clone, tmp_path: Path) -> None:
    setup(fresh)
    report_instead(fresh)
    fresh.commit("Code")
    assert push(fresh, tmp_path / "bare", "main") == f"checked ['--push'] {fresh.folder} refs/heads/main\n"
    fresh.run("git", "rm", "--quiet", "tools/storage/check.py")
    fresh.commit("Another layout")
    assert push(fresh, tmp_path / "bare", "main").startswith("note: this commit has no tools/storage/check.py")


@pytest.mark.parametrize("old", TRACKED_HOOKS)
def test_what_an_earlier_setup_left_is_moved(old: str, fresh: Clone) -> None:
    fresh.run("git", "config", "core.hooksPath", old)
    fresh.run("git", "config", "merge.dvc-lock.driver", "python -m tools.clone.merge_lock %O %A %B")
    assert setup(fresh).startswith("git no longer runs hooks of the branch that is checked out\n")
    assert "hookspath" not in fresh.run("git", "config", "--list").lower()
    assert " -m " not in fresh.run("git", "config", "--get-all", "merge.dvc-lock.driver")
    assert (fresh.folder / ".git/hooks/pre-push").exists()


LOCKS = {
    "base": "schema: '2.0'\nstages:\n  a:\n    cmd: a\n  b:\n    cmd: b\n",
    "main": "schema: '2.0'\nstages:\n  a:\n    cmd: a2\n  b:\n    cmd: b\n",
    "hostile": "schema: '2.0'\nstages:\n  a:\n    cmd: a\n  b:\n    cmd: b2\n",
    "both": "schema: '2.0'\nstages:\n  a:\n    cmd: a2\n  b:\n    cmd: b2\n",
}


def with_hostile_branch(clone: Clone, mark: Path) -> None:
    """Commit a branch whose every file that git or Python might run by itself makes a mark."""
    (clone.folder / "dvc.lock").write_text(LOCKS["base"])
    (clone.folder / ".gitignore").write_text("/.venv/\n")
    clone.commit("Base")
    clone.run("git", "switch", "--quiet", "--create", "hostile")
    shell, code = f"#!/bin/sh\necho {{}} >> '{mark}'\n", f"open({str(mark)!r}, 'a').write(__file__)\n"
    programs = [f"{folder}/{hook}" for folder in (*TRACKED_HOOKS, ".husky", "hooks") for hook in HOOKS]
    programs += [f".venv/bin/{name}" for name in ("python", "python3", "git", "sh", "true", "merge_lock.py")]
    for name in programs:
        path = clone.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shell.format(name))
        path.chmod(0o755)
    for name in ("sitecustomize", "usercustomize", "re", "pathlib", "subprocess", "tools/__init__", "stages/errors"):
        (clone.folder / f"{name}.py").write_text(code)
    for path in (*clone.folder.glob("tools/*/*.py"), *clone.folder.glob("tools/*.py")):
        path.write_text(code)
    (clone.folder / "dvc.lock").write_text(LOCKS["hostile"])
    clone.run("git", "add", "--all", "--force")
    clone.run("git", "commit", "--quiet", "--message", "Hostile")
    clone.run("git", "switch", "--quiet", "main")
    (clone.folder / "dvc.lock").write_text(LOCKS["main"])
    clone.commit("Ours")


@pytest.mark.parametrize("old", [None, *TRACKED_HOOKS])
def test_git_runs_nothing_that_a_branch_brings(old: str | None, fresh: Clone, tmp_path: Path) -> None:
    if old:
        fresh.run("git", "config", "core.hooksPath", old)
    setup(fresh)
    mark = tmp_path / "mark"
    with_hostile_branch(fresh, mark)
    other = Clone(tmp_path / "other")
    fresh.run("git", "clone", "--quiet", ".", str(other.folder))
    fresh.run("git", "remote", "add", "other", str(other.folder))
    fresh.run("git", "fetch", "--quiet", "other")
    fresh.run("git", "merge", "--quiet", "--no-edit", "hostile")
    assert (fresh.folder / "dvc.lock").read_text() == LOCKS["both"], "and the driver did its work"
    fresh.run("git", "reset", "--quiet", "--hard", "HEAD^")
    fresh.run("git", "switch", "--quiet", "hostile")
    fresh.run("git", "merge", "--quiet", "--no-edit", "main")
    assert (fresh.folder / "dvc.lock").read_text() == LOCKS["both"]
    fresh.run("git", "reset", "--quiet", "--hard", "HEAD^")
    fresh.run("git", "rebase", "--quiet", "main")
    assert (fresh.folder / "dvc.lock").read_text() == LOCKS["both"]
    fresh.run("git", "commit", "--quiet", "--allow-empty", "--message", "More")
    fresh.run("git", "worktree", "add", "--quiet", str(tmp_path / "worktree"), "HEAD~1")
    assert not mark.exists(), mark.read_text()


def test_a_work_tree_and_a_submodule_are_set_up(fresh: Clone, tmp_path: Path) -> None:
    report_instead(fresh)
    fresh.commit("Code")
    fresh.run("git", "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "worktree"))
    outer = Clone(tmp_path / "outer")
    outer.folder.mkdir()
    outer.run("git", "init", "--quiet")
    outer.run("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(fresh.folder), "model")
    for folder, git in (
        (tmp_path / "worktree", fresh.folder / ".git"),
        (outer.folder / "model", outer.folder / ".git/modules/model"),
    ):
        clone = Clone(folder)
        assert (folder / ".git").is_file()
        setup(clone)
        assert (git / "hooks/pre-push").exists()
        assert setup(clone) == "nothing to do\n"
        branch = clone.run("git", "branch", "--show-current").strip()
        assert push(clone, tmp_path / "bare", branch) == f"checked ['--push'] {folder} refs/heads/{branch}\n"
    # The other work tree of the first clone has the hook too.
    assert push(fresh, tmp_path / "bare", "main:again").startswith(f"checked ['--push'] {fresh.folder} ")


def test_in_a_folder_of_a_larger_repository_the_check_of_that_folder_runs(tmp_path: Path) -> None:
    outer = Clone(tmp_path / "outer")
    project = Clone(outer.folder / "models" / "it's a digit")
    copy_code(project.folder)
    outer.run("git", "init", "--quiet", "--initial-branch=main")
    report_instead(project)
    outer.commit("Code")
    setup(project)
    assert setup(project) == "nothing to do\n"
    assert push(outer, tmp_path / "bare", "main") == f"checked ['--push'] {project.folder} refs/heads/main\n"


@pytest.mark.parametrize("name", ['it\'s a $(touch mark) `touch mark` "%O"', "ü\\n"])
def test_an_odd_path_is_no_command(name: str, fresh: Clone, tmp_path: Path) -> None:
    odd = Clone(tmp_path / name / "clone")
    odd.folder.parent.mkdir()
    fresh.folder.rename(odd.folder)
    setup(odd)
    with_hostile_branch(odd, tmp_path / "mark")
    odd.run("git", "merge", "--quiet", "--no-edit", "hostile")
    assert (odd.folder / "dvc.lock").read_text() == LOCKS["both"]
    assert not list(tmp_path.rglob("mark"))


def test_every_merge_driver_that_is_named_is_installed(fresh: Clone) -> None:
    setup(fresh)
    named = {
        word.removeprefix("merge=")
        for line in (ROOT / ".gitattributes").read_text().splitlines()
        for word in line.split()
        if word.startswith("merge=")
    }
    configured = fresh.run("git", "config", "--name-only", "--get-regexp", r"merge\..*\.driver").split()
    assert {f"merge.{name}.driver" for name in named} == set(configured)


def test_only_what_the_pipeline_makes_stays_ours() -> None:
    shown = Clone(ROOT).run("git", "check-attr", "merge", "reports/metrics.json", "reports/benchmarks/recipes.md")
    assert shown.splitlines() == [
        "reports/metrics.json: merge: ours-until-repro",
        "reports/benchmarks/recipes.md: merge: unspecified",
    ]


def test_another_hook_stays_and_may_call_ours(fresh: Clone, tmp_path: Path) -> None:
    hook = fresh.folder / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho theirs >&2\n")
    hook.chmod(0o755)
    for _ in range(2):
        line = error_of(setup(fresh, exit_code=1))
        assert line.startswith(f"error: {hook}: your own hook, which stays; add the line `{CALL}` before")
        assert hook.read_text() == "#!/bin/sh\necho theirs >&2\n"
    report_instead(fresh)
    fresh.commit("Code")
    assert push(fresh, tmp_path / "bare", "main") == "theirs\n"
    hook.write_text(f"{hook.read_text()}{CALL}\n")
    assert push(fresh, tmp_path / "bare", "main:again").splitlines() == [
        "theirs",
        f"checked ['--push'] {fresh.folder} refs/heads/main",
    ]


@pytest.mark.parametrize("scope", ["--global", "--local"])
def test_a_folder_of_hooks_is_named_with_its_origin_and_a_remedy_that_works(
    scope: str, fresh: Clone, tmp_path: Path
) -> None:
    fresh.environment["GIT_CONFIG_GLOBAL"] = str(tmp_path / "gitconfig")
    fresh.run("git", "config", scope, "core.hooksPath", str(tmp_path / "all hooks"))
    line = error_of(setup(fresh, exit_code=1))
    origin = {"--global": f"file:{tmp_path}/gitconfig", "--local": "file:.git/config"}[scope]
    assert line.startswith(
        f"error: core.hooksPath: git runs the hooks in {tmp_path}/all hooks alone, as {origin} says; "
        f"add the line `{CALL}` to {tmp_path}/all hooks/pre-push, or run `git config --local "
    )
    remedy = line.split(" or run `")[1].split("`")[0]
    fresh.run("sh", "-c", remedy)
    assert "before a push git runs" in setup(fresh)
    report_instead(fresh)
    fresh.commit("Code")
    assert push(fresh, tmp_path / "bare", "main").startswith("checked")


@pytest.mark.parametrize("content", [f"#!/bin/sh\nexec {CALL}\n", "#!/bin/sh\necho theirs\n"])
def test_a_hook_that_git_ignores_is_named(content: str, fresh: Clone) -> None:
    hook = fresh.folder / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(content)
    hook.chmod(0o644)
    assert error_of(setup(fresh, exit_code=1)) == (
        f"error: {hook}: git ignores this hook, because it is not executable; run `chmod +x {hook}` or remove it, "
        "then `make setup` again"
    )
    assert hook.read_text() == content


def test_a_call_in_a_comment_of_a_hook_is_none(fresh: Clone) -> None:
    hook = fresh.folder / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n# {CALL}\n")
    hook.chmod(0o755)
    assert "your own hook, which stays" in error_of(setup(fresh, exit_code=1))


def test_a_folder_of_hooks_that_calls_ours_is_fine(fresh: Clone, tmp_path: Path) -> None:
    hook = tmp_path / "hooks/pre-push"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\n{CALL}\n")
    hook.chmod(0o755)
    fresh.run("git", "config", "core.hooksPath", str(hook.parent))
    setup(fresh)
    report_instead(fresh)
    fresh.commit("Code")
    assert push(fresh, tmp_path / "bare", "main").startswith("checked")
    assert setup(fresh) == "nothing to do\n"


def test_outside_of_a_repository_it_says_so(tmp_path: Path) -> None:
    outside = Clone(tmp_path)
    printed = outside.run("python", "-m", "tools.clone.setup", exit_code=1, PYTHONPATH=str(ROOT))
    assert "not a git repository" in error_of(printed)


def test_the_files_of_git_are_programs(fresh: Clone) -> None:
    setup(fresh)
    for name in ("hooks/pre-push", "mnist-lstm/pre-push"):
        assert os.access(fresh.folder / ".git" / name, os.X_OK)
