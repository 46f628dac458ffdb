"""Check that a commit is complete, `make check`: parameters, pipeline, reports, and its data in the storage.

Each line names a file, what is wrong with it and what helps. Data that is merely not pulled is fine.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.repo.experiments.refs import EXPS_NAMESPACE
from scmrepo.exceptions import SCMError

from stages.errors import RESTORE, InputError, one_line_errors, remedied
from stages.params import load_params
from tools import make_parser
from tools.runs import evidence, lock
from tools.runs.lock import Lock
from tools.runs.revision import git_errors
from tools.storage.store import unavailable

NOT_PULLED = {"deleted", "not in cache"}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--push", action="store_true", help="as git's pre-push hook: can others get the data of a push?"
    )
    if parser.parse_args().push:
        found = problems_of_push(sys.stdin.read().splitlines())
        remedy = (
            "nothing is pushed to git, since others could not get its data; `git push --no-verify` pushes all the same"
        )
    else:
        found, remedy = problems(), ""
    print("\n".join([*found, *([remedy] if found and remedy else [])] or ["everything is in order"]))
    sys.exit(1 if found else 0)


def problems() -> list[str]:
    """List what is wrong with the repository in this folder, one line each: file, fault and remedy."""

    def of_all() -> list[str]:
        with Repo() as repo:
            return [*lines_of(parameters), *lines_of(lambda: pipeline(repo)), *lines_of(lambda: unavailable(repo))]

    return lines_of(of_all)


def problems_of_push(lines: Iterable[str]) -> list[str]:
    """List the files of the commits of a push that other clones could not get. Git names the commits to its hook.

    Only commits that branches and tags will point to are checked, not experiments.
    """

    def of_all() -> list[str]:
        found: list[str] = []
        with Repo() as today:
            config = todays_storage(today)
        with Repo(config=config) as repo:
            pushed = {
                commit
                for _, commit, ref, _ in (line.rsplit(maxsplit=3) for line in lines)
                if commit.strip("0") and not ref.startswith(f"{EXPS_NAMESPACE}/")
            }
            for commit in sorted(commits(repo, pushed)):
                # `dvc push --all-branches` looks for a storage with a relative path elsewhere.
                push = "dvc push" if commit == repo.scm.get_rev() else f"git checkout {commit[:10]} && dvc push"
                found += unavailable(repo, commit, push)
        return list(dict.fromkeys(found))

    return lines_of(of_all)


def commits(repo: Repo, names: Iterable[str]) -> Iterator[str]:
    """Return the commits behind these names. Objects that are no commits have no data."""
    for name in names:
        with suppress(SCMError):
            yield repo.scm.resolve_rev(f"{name}^{{commit}}")


def todays_storage(repo: Repo) -> dict[str, Any]:
    """Return the settings of today's storage, for a commit that may name an earlier one."""
    name = repo.config["core"].get("remote")
    remotes = repo.config["remote"]
    return {"core": {"remote": name}, "remote": {name: dict(remotes[name])}} if name in remotes else {}


def lines_of(check: Callable[[], Iterable[str]]) -> list[str]:
    """Return what a check finds, or the line that says why the check failed."""
    try:
        with git_errors(Path.cwd()):
            return list(check())
    except InputError as error:
        return [" ".join(str(error).split())]


def parameters() -> Iterable[str]:
    load_params()
    return ()


def pipeline(repo: Repo) -> Iterator[str]:
    with remedied(f"run `git checkout HEAD {lock.PATH}` or `dvc repro`"):
        recorded = lock.load()
    status, added = by_kind(repo.status())
    yield from changed_data(added)
    # Where data of `dvc add` differ, the folders around them do too.
    named = {str(each) for name in added for each in (Path(name).with_suffix(""), *Path(name).parents)}
    yield from changed_inputs(status, recorded, named)
    changed = list(changed_outputs(status, recorded, reports(repo)))
    yield from changed
    yield from disagreements(recorded)
    if not changed:
        yield from lines_of(lambda: agreement(recorded))


def by_kind(status: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Separate DVC's status of the stages from that of data that `dvc add` tracks, such as own pictures."""
    pipeline, added = (
        {name: changes for name, changes in status.items() if name.endswith(".dvc") == is_added}
        for is_added in (False, True)
    )
    return pipeline, added


def changed_data(status: Mapping[str, Any]) -> Iterator[str]:
    """Name the data of `dvc add` that differ from git's record. Data that are not pulled do not count."""
    for name, changes in status.items():
        for path, how in _changes(changes, "changed outs"):
            if how not in NOT_PULLED:
                yield f"{path}: differs from what {name} records; run `dvc repro`, or `dvc checkout {name}` restores it"


def agreement(recorded: Lock) -> Iterable[str]:
    evidence.check_workspace(recorded)
    return ()


def reports(repo: Repo) -> set[str]:
    """List the outputs that are in git."""
    return {str(Path(out.fs_path).relative_to(repo.root_dir)) for out in repo.index.outs if not out.use_cache}


def changed_inputs(status: Mapping[str, Any], recorded: Lock, named: Iterable[str]) -> Iterator[str]:
    """Say which stages read a file or parameter that changed and is not named yet, and which have not run."""
    skipped = {*named, *(out.path for stage in recorded.stages.values() for out in stage.outs)}
    readers = defaultdict(list)
    for stage, changes in status.items():
        if stage not in recorded.stages:
            yield f"{lock.PATH}: has no run of {stage}; run `dvc repro`"
            continue
        if "changed command" in changes:
            readers["dvc.yaml: the command"].append(stage)
        for path, how in _changes(changes, "changed deps"):
            if path not in skipped:
                readers[f"{path}: {', '.join(how)}" if isinstance(how, dict) else f"{path}:"].append(stage)
    for what, stages in readers.items():
        yield f"{what} changed since {', '.join(stages)} ran; run `dvc repro`"


def changed_outputs(status: Mapping[str, Any], recorded: Lock, reports: set[str]) -> Iterator[str]:
    """Name each output that differs from what the run made, except data that is not pulled."""
    for stage, changes in status.items():
        for path, how in _changes(changes, "changed outs") if stage in recorded.stages else ():
            if path in reports:
                yield f"{path}: differs from what {lock.PATH} records for {stage}; `git restore {path}` restores it"
            elif how not in NOT_PULLED:
                yield f"{path}: differs from what {lock.PATH} records for {stage}; {RESTORE}"


def _changes(changes: Iterable[Any], kind: str) -> Iterator[tuple[str, Any]]:
    for change in changes:
        if isinstance(change, dict):
            yield from change.get(kind, {}).items()


def disagreements(recorded: Lock) -> Iterator[str]:
    """Name each stage that ran on another file than the last run of the file's stage made, as after a line merge."""
    made = {out.path: (name, out.md5) for name, stage in recorded.stages.items() for out in stage.outs}
    for name, stage in recorded.stages.items():
        for dep in stage.deps:
            maker, md5 = made.get(dep.path, (None, dep.md5))
            if dep.md5 != md5:
                yield f"{lock.PATH}: {name} ran on another {dep.path} than {maker} made; run `dvc repro`"


if __name__ == "__main__":
    with one_line_errors():
        main()
