"""Check that this clone has every tag of the model that its remote has: a decision without them is outdated."""

import sys

from gto.tag import parse_name
from scmrepo.git import Git

from stages.errors import InputError
from tools.registry import attempts
from tools.runs import versions
from tools.runs.versions import git

PATIENCE = 60  # seconds for an answer
USUAL = "origin"


def check(scm: Git, *, offline: bool) -> str:
    """Ask the remotes for their tags, and return the remote to push to.

    Raises `InputError` if one has tags that this clone lacks or has otherwise, or if it cannot be asked.
    """
    asked = remotes(scm)
    if not asked:
        print("note: this clone has no remote, so nobody else's versions and assignments are known", file=sys.stderr)
    elif offline:
        print(f"note: {', '.join(asked)} is not asked for the tags of others", file=sys.stderr)
    else:
        for remote in asked:
            compare(scm, remote, must_have_attempts=remote == asked[0])
    return asked[0] if asked else USUAL


def remotes(scm: Git) -> list[str]:
    """Choose `origin` and the remote that the branch follows, or all if there is neither."""
    known = git(scm, "remote").split()
    followed = git(scm, "for-each-ref", "--format=%(HEAD) %(upstream:remotename)", "refs/heads")
    chosen = [USUAL, *(line[2:] for line in followed.splitlines() if line.startswith("* "))]
    return [name for name in dict.fromkeys(chosen) if name in known] or known


def compare(scm: Git, remote: str, *, must_have_attempts: bool) -> None:
    here, there = tags_here(scm), tags_of(scm, remote)
    fetch = f"git fetch --tags {remote}"
    if other := [name for name in there if name in here and here[name] != there[name]]:
        counted = any(map(attempts.is_attempt, other))
        raise InputError(
            f"{', '.join(other)}: not the tag that {remote} has, so somebody else was first; "
            f"`git tag -d {' '.join(map(repr, other))} && {fetch}` replaces it, then "
            f"{'promote the same version again, so that the attempt is counted' if counted else 'run this again'}"
        )
    if lacking := [name for name in there if name not in here]:
        raise InputError(
            f"{remote} has tags that this clone lacks: {', '.join(lacking)}; run `{fetch}`, then this again"
        )
    if only_here := [name for name in here if must_have_attempts and attempts.is_attempt(name) and name not in there]:
        raise InputError(
            f"{remote} lacks attempts that this clone recorded: {', '.join(only_here)}; "
            f"run `git push {remote} {' '.join(map(repr, only_here))}`, then this again"
        )


def is_of_model(tag: str) -> bool:
    """Tell whether a tag is of the model: a version, a stage or an attempt."""
    return parse_name(tag, raise_on_fail=False).get("name") == versions.ARTIFACT or attempts.is_attempt(tag)


def tags_here(scm: Git) -> dict[str, str]:
    """Return the hashes of this clone's tags of the model, by name."""
    printed = git(scm, "for-each-ref", "--format=%(refname:strip=2)\t%(objectname)", "refs/tags")
    return {name: id_ for name, _, id_ in (line.partition("\t") for line in printed.splitlines()) if is_of_model(name)}


def tags_of(scm: Git, remote: str) -> dict[str, str]:
    """Return the hashes of a remote's tags of the model, by name."""
    try:
        printed = git(scm, "ls-remote", "--tags", "--refs", remote, patience=PATIENCE)
    except InputError as error:
        raise InputError(
            f"{remote} cannot be asked for the tags of others ({error}); connect and run this again, or decide on the "
            "tags that are here: --offline, with make OFFLINE=1"
        ) from None
    named = (line.split("\trefs/tags/") for line in printed.split("\n") if line)
    return {name: id_ for id_, name in named if is_of_model(name)}


def publish(scm: Git, remote: str, name: str, id_: str) -> None:
    """Push a tag that is not listed here yet.

    Raises `InputError` if the remote does not take it.
    """
    try:
        git(scm, "push", "--quiet", remote, f"{id_}:refs/tags/{name}")
    except InputError as error:
        if name in tags_of(scm, remote):
            raise InputError(
                f"{name}: somebody else recorded this attempt first; run `git fetch --tags {remote}`, then this again"
            ) from None
        raise InputError(
            f"{remote} does not take {name}, which records this attempt, so nothing is decided ({error}); make the "
            "push possible and run this again, or record it here alone: --offline, with make OFFLINE=1"
        ) from None


def how_to_share(remote: str, tag: str) -> str:
    """Say how others get a tag, and what to do if somebody was first."""
    return (
        f"Share it: git push {remote} '{tag}'\n"
        f"If git rejects it, somebody was first: git tag -d '{tag}' && git fetch --tags {remote}, then run this again"
    )
