"""The git remote and the storage, through which the nodes of a sweep and this clone exchange experiments."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DownloadError
from dvc.repo import Repo
from dvc.repo.experiments.refs import ExpRefInfo

from stages import history
from stages.errors import InputError
from stages.params import PATH as PARAMS
from stages.terminal import printable
from tools import ROOT
from tools.runs.revision import Revision, git_errors, read, read_lock
from tools.runs.run import flat
from tools.storage.configure import try_out
from tools.storage.store import NAME as STORAGE
from tools.storage.store import note_folder, open_storage, storage_errors
from tools.sweep.git import reason_of
from tools.sweep.record import Key, name_of

NAME = "origin"
# The settings of a storage's keys in .dvc/config.local, and the variables that trials read.
KEYS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
# What the trials take from the commit.
RUN_FROM = (str(PARAMS), "dvc.yaml", "requirements.txt", "stages", "data", ".dvc/config")


def git(*arguments: str, entered: str = "") -> str:
    """Run git here, and return what it prints. Raises `InputError` with the reason if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, input=entered, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {arguments[0]}: {reason_of(done.stderr)}")
    return done.stdout.strip()


def url() -> str:
    """Return the address of the git remote, as any folder of this machine can use it."""
    try:
        found = git("remote", "get-url", NAME)
    except InputError:
        raise InputError(
            f"this clone has no git remote {NAME}, over which trials share experiments; add one with "
            f"`git remote add {NAME} URL`"
        ) from None
    return str((ROOT / found).resolve()) if (ROOT / found).exists() else found


def commit() -> str:
    """Return the commit here.

    Raises `InputError` if the remote lacks the commit or takes no experiments, or if a file that the trials run is not
    committed.
    """
    changed = git("diff", "--name-only", "HEAD", "--", *RUN_FROM).splitlines()
    added = git("ls-files", "--others", "--exclude-standard", "--", *RUN_FROM).splitlines()
    if changed or added:
        raise InputError(
            f"{printable(', '.join(changed + added))}: not as in the commit, which the trials run; commit the change, "
            "or undo it with `git restore`, and remove a new file"
        )
    found = git("rev-parse", "HEAD")
    if not is_on_a_branch(found):
        raise InputError(f"{NAME} lacks the commit {found[:10]}, which the trials run; `git push` brings it there")
    git("push", "--quiet", "--no-verify", "--dry-run", NAME, f"+{found}:{ExpRefInfo(found, 'sweep')}")
    return found


def is_on_a_branch(commit: str) -> bool:
    """Tell whether a branch of the remote has a commit. What must be fetched for that gets no reference here."""
    tips = dict(line.split("\t") for line in git("ls-remote", "--heads", NAME).splitlines())

    def is_known() -> bool:
        return not git("rev-list", "--max-count=1", "--ignore-missing", commit, "--not", *tips)

    if not tips or is_known():
        return bool(tips)
    git("fetch", "--quiet", NAME)  # the branches that this clone follows, which may be one
    if not is_known():
        git("fetch", "--quiet", "--no-tags", "--refmap=", "--stdin", NAME, entered="\n".join(tips.values()))
    return is_known()


def storage() -> str:
    """Try the storage out, and return its URL, which this clone may have alone."""
    with git_errors(ROOT), Repo(str(ROOT)) as repo:
        opened = open_storage(repo)
        try_out(opened)
        note_folder(opened)
        return str(_settings(repo)["url"])


def _settings(repo: Repo) -> Mapping[str, Any]:
    """Return the storage's settings, those that this clone has alone included."""
    settings: Mapping[str, Any] = repo.config["remote"][repo.config["core"]["remote"]]
    return settings


def check_keys() -> None:
    """Check that trials on this machine have the keys of the storage.

    Raises `InputError` if only .dvc/config.local has them, which is not part of a trial's clone.
    """
    with git_errors(ROOT), Repo(str(ROOT)) as repo:
        settings = _settings(repo)
    if missing := [variable for name, variable in KEYS.items() if name in settings and not os.environ.get(variable)]:
        raise InputError(
            f"{', '.join(missing)}: not set; trials read the keys of the storage from these variables, and not from "
            ".dvc/config.local; export them, and run this again"
        )


def author() -> dict[str, str]:
    """Return who runs the sweep, as variables for git; empty where git does not know it."""
    found: dict[str, str] = {}
    for variable, setting in (("NAME", "user.name"), ("EMAIL", "user.email")):
        done = subprocess.run(["git", "config", setting], cwd=ROOT, capture_output=True, text=True, check=False)
        if value := os.environ.get(f"GIT_AUTHOR_{variable}") or done.stdout.strip():
            found |= {f"GIT_{role}_{variable}": value for role in ("AUTHOR", "COMMITTER")}
    return found


class Experiment(NamedTuple):
    """An experiment on the remote."""

    name: str
    commit: str
    params: dict[str, Any]  # that the stages ran with, by section.name
    hashes: Mapping[str, str]  # the MD5 of every output, by its path
    history: list[dict[str, float]]


def experiments(sweep: str, commit: str) -> dict[Key, Experiment]:
    """Fetch the experiments of a sweep that the remote has, whoever ran them, by number and seed.

    Raises `InputError` if this clone has an experiment with the name of a trial that the remote does not have.
    """
    pattern = str(ExpRefInfo(commit, f"{sweep}-*"))
    there = of_trials(sweep, git("ls-remote", NAME, pattern))
    here = of_trials(sweep, git("for-each-ref", "--format=%(objectname)%09%(refname)", pattern))
    if others := [name_of(sweep, key) for key, sha in here.items() if there.get(key) != sha]:
        raise InputError(
            f"experiments in this clone have names of this sweep's trials, and {NAME} does not have these experiments; "
            f"rename the sweep's file, or remove them here with `dvc exp remove {' '.join(others)}`"
        )
    new = [str(ExpRefInfo(commit, name_of(sweep, key))) for key in there if key not in here]
    if new:
        git("fetch", "--quiet", "--no-tags", "--stdin", NAME, entered="\n".join(f"{ref}:{ref}" for ref in new))
    found: dict[Key, Experiment] = {}
    for key, sha in there.items():
        revision = Revision(name_of(sweep, key), sha, str(ROOT))
        lock = read_lock(revision)
        rows: Any = read(revision, history.PATH, history.parse).to_dict("records")
        found[key] = Experiment(revision.name, sha, flat(lock.params), lock.hashes, rows)
    return found


def of_trials(sweep: str, listed: str) -> dict[Key, str]:
    """Return the commits of a sweep's experiments from a list of commits and references, by number and seed."""
    number = r"(0|[1-9]\d*)"
    found = re.findall(rf"^(\w+)\t.*/{re.escape(sweep)}-{number}-s{number}$", listed, re.MULTILINE)
    return {(int(candidate), int(seed)): sha for sha, candidate, seed in found}


def removal(*names: str) -> str:
    """Give the commands that remove experiments from the remote and from this clone."""
    listed = " ".join(names)
    return f"`dvc exp remove --git-remote {NAME} {listed}` and `dvc exp remove {listed}`"


def pull(experiments: Sequence[Experiment]) -> None:
    """Get the data of experiments from the storage into the cache here.

    Raises `InputError` if neither has a file.
    """
    with storage_errors(), git_errors(ROOT), Repo(str(ROOT)) as repo:
        # At another commit DVC would look for a storage with a relative path at the root of the file system.
        here = {"remote": {STORAGE: dict(repo.config["remote"].get(STORAGE, {}))}}
        try:
            repo.fetch(revs=[experiment.commit for experiment in experiments], config=here)
        except DownloadError as error:
            raise InputError(
                f"{error.amount:,} files of the experiments are not pulled from the storage; run the same command again"
            ) from None
        outs = [Path(out.fs_path).relative_to(repo.root_dir).as_posix() for out in repo.index.outs if out.use_cache]
        exists = repo.cache.local.exists
        missing: dict[str, list[str]] = {}  # by experiment; DVC only warns of them, by their MD5
        for experiment in experiments:
            hashes = experiment.hashes
            if lost := [out for out in outs if out in hashes and not exists(hashes[out])]:
                missing[experiment.name] = lost
    if missing:
        files = ", ".join(f"{file} of {name}" for name, files in missing.items() for file in files)
        raise InputError(
            f"neither the storage nor the cache here has {files}; to run these trials again, remove the experiments "
            f"with {removal(*missing)}, then run the same command"
        )
