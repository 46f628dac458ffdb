"""Check that this clone has every tag of the model that its remote has: a decision without them is outdated."""

import sys

from gto.tag import parse_name
from scmrepo.git import Git

from stages.errors import InputError
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
            compare(scm, remote)
    return asked[0] if asked else USUAL


def remotes(scm: Git) -> list[str]:
    """Choose `origin` and the remote that the branch follows, or all if there is neither."""
    known = git(scm, "remote").split()
    followed = git(scm, "for-each-ref", "--format=%(HEAD) %(upstream:remotename)", "refs/heads")
    chosen = [USUAL, *(line[2:] for line in followed.splitlines() if line.startswith("* "))]
    return [name for name in dict.fromkeys(chosen) if name in known] or known


def compare(scm: Git, remote: str) -> None:
    here = {tag.name: tag.id for tag in versions.tags(scm)}
    there = tags_of(scm, remote)
    fetch = f"git fetch --tags {remote}"
    if other := [name for name in there if name in here and here[name] != there[name]]:
        raise InputError(
            f"{', '.join(other)}: not the tag that {remote} has, so somebody else was first; "
            f"`git tag -d {' '.join(map(repr, other))} && {fetch}` replaces it, then run this again"
        )
    if lacking := [name for name in there if name not in here]:
        raise InputError(
            f"{remote} has tags that this clone lacks: {', '.join(lacking)}; run `{fetch}`, then this again"
        )


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
    return {name: id_ for id_, name in named if parse_name(name, raise_on_fail=False).get("name") == versions.ARTIFACT}


def shared(remote: str, tag: str) -> str:
    """Say how others get a tag, and what to do if somebody was first."""
    return (
        f"Share it: git push {remote} '{tag}'\n"
        f"If git rejects it, somebody was first: git tag -d '{tag}' && git fetch --tags {remote}, then run this again"
    )
