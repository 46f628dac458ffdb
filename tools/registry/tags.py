"""Write the tags that register a version of the model or give it a stage."""

import time

import gto.api
from gto.versions import SemVer
from scmrepo.git import Git

from stages.errors import InputError
from tools.runs import versions

PARTS = ("patch", "minor", "major")  # of a version
PATIENCE = 5  # seconds to wait for this machine's clock to pass another's


def next_version(scm: Git, part: str) -> str:
    """Count a part of the highest version up; v0.0.0 is before the first."""
    taken = [SemVer(event["version"]) for event in versions.history(scm) if event["event"] == "registration"]
    highest = max(taken, default=SemVer("v0.0.0"))
    return str(
        highest.bump(  # type: ignore[no-untyped-call]
            **{f"bump_{part}": True}
        ).version
    )


def register(scm: Git, version: versions.Version, message: str) -> None:
    """Make the tag of a version."""
    with versions.gto_errors(f"{version.tag} is not registered"):
        gto.api.register(scm, versions.ARTIFACT, version.commit, version=version.name, message=message)


def assign(scm: Git, version: versions.Version, stage: str, message: str) -> str:
    """Make the tag that gives a version a stage, later than all before it, and return its name.

    Git's clock has whole seconds, and GTO and DVC take the latest tag for the one that holds.
    """
    latest = max((each.time for each in versions.assignments(scm, stage)), default=0)
    wait = latest + 1 - time.time()
    if wait > PATIENCE:
        raise InputError(
            f"{stage} was last assigned {wait:.0f} s in the future of this machine's clock; correct the clock"
        )
    time.sleep(max(0, wait))
    with versions.gto_errors(f"{stage} is not assigned"):
        event = gto.api.assign(scm, versions.ARTIFACT, stage, version=version.name, message=message, force=True)
    return str(event.tag)
