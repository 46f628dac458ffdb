"""The registered versions of the model and the stages they hold: git tags as GTO writes and reads them.

`lstm@v1.2.0` registers a version, `lstm#prod#3` assigns it a stage; the newest assignment holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gto.api
from gto.exceptions import GTOException
from gto.tag import parse_name
from gto.versions import SemVer
from scmrepo.exceptions import SCMError
from scmrepo.git import Git

from stages.errors import InputError

ARTIFACT = "lstm"  # as dvc.yaml declares it


@dataclass(frozen=True)
class Version:
    name: str  # v1.2.0
    commit: str

    @property
    def tag(self) -> str:
        return f"{ARTIFACT}@{self.name}"


@dataclass(frozen=True)
class Assignment:
    """A version got a stage, or lost it."""

    version: Version
    stage: str
    time: float  # seconds since 1970
    number: int  # GTO counts them all
    lost: bool = False


def registered(scm: Git) -> list[Version]:
    """Return the registered versions, the highest last."""
    found = {}
    for event in history(scm):
        match event["event"]:
            case "registration":
                found[event["version"]] = Version(event["version"], event["commit"])
            case "deregistration":
                found.pop(event["version"], None)
    return sorted(found.values(), key=lambda version: SemVer(version.name))


def find_version(scm: Git, name: str) -> Version:
    """Find a version by its name, with or without `lstm@` before it.

    Raises `InputError` if there is none.
    """
    known = registered(scm)
    for version in known:
        if name in (version.name, version.tag):
            return version
    names = ", ".join(version.name for version in known) or "none"
    raise InputError(
        f"{name}: no registered version; found {names}; `git fetch --tags` gets those of others, "
        "`make register` makes one"
    )


def assignments(scm: Git, stage: str) -> list[Assignment]:
    """Return who got or lost a stage, the newest last."""
    known = registered(scm)
    found = [
        Assignment(
            Version(event["version"], event["commit"]),
            stage,
            event["timestamp"].timestamp(),
            parse_name(event["ref"]).get("counter", 0),
            lost=event["event"] == "unassignment",
        )
        for event in history(scm)
        if event["stage"] == stage
    ]
    # Of one second, which is as fine as git's clock goes, GTO's count knows the order.
    return sorted((each for each in found if each.version in known), key=lambda each: (each.time, each.number))


def holders(assigned: list[Assignment]) -> list[Version]:
    """Return the versions that a stage's history leaves with it, the one that holds it last."""
    held: list[Version] = []
    for each in assigned:
        if each.version in held:
            held.remove(each.version)
        if not each.lost:
            held.append(each.version)
    return held


def find_holder(scm: Git, stage: str) -> Version:
    """Find the version that holds a stage.

    Raises `InputError` if there is none.
    """
    held = holders(assignments(scm, stage))
    if not held:
        raise InputError(
            f"{ARTIFACT}@{stage}: no version holds the stage {stage} here; `git fetch --tags` gets what others "
            f"assigned, `make promote VERSION=... STAGE={stage}` assigns it"
        )
    return held[-1]


def find_holder_before(scm: Git, stage: str) -> Version:
    """Find the version that held a stage before its holder first got it; going back twice goes back two versions.

    Raises `InputError` if there is none.
    """
    holder = find_holder(scm, stage)
    assigned = assignments(scm, stage)
    first = next(at for at, each in enumerate(assigned) if each.version == holder)
    held = holders(assigned[:first])
    if not held:
        raise InputError(
            f"{ARTIFACT}@{stage}: no version held the stage {stage} before {holder.name}; `gto assign {ARTIFACT} "
            f"--version VERSION --stage {stage}` assigns another without comparing"
        )
    return held[-1]


def message(scm: Git, version: Version) -> str:
    """Read what a version's tag says."""
    return next(str(event["message"]) for event in reversed(history(scm)) if event["ref"] == version.tag)


def history(scm: Git) -> list[dict[str, Any]]:
    with gto_errors(f"the tags of {ARTIFACT} are not readable"):
        return gto.api.history(scm, ARTIFACT, ascending=True)


@contextmanager
def gto_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (GTOException, SCMError) as error:
        raise InputError(f"{what}: {error}") from None
