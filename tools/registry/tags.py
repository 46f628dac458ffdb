"""Write the tags that register a version of the model or give it a stage."""

import re
import time
from pathlib import Path

from gto.config import CONFIG_FILE_NAME, read_registry_config
from gto.tag import create_tag
from gto.versions import SemVer
from scmrepo.git import Git

from stages.errors import InputError
from tools.runs import versions
from tools.runs.versions import git

PARTS = ("patch", "minor", "major")  # of a version
PATIENCE = 5  # seconds to wait for this machine's clock to pass another's


def next_version(scm: Git, part: str) -> str:
    """Return the highest version with this part increased, or v0.0.0's if there is none.

    While a tag has this name, the patch is increased too.
    """
    known = versions.tags(scm)
    given = (SemVer(tag.version) for tag in known if tag.annotated and tag.version)
    name = _bumped(str(max(given, default=SemVer("v0.0.0")).version), part)
    while name in {tag.version for tag in known}:
        name = _bumped(name, "patch")
    return name


def _bumped(version: str, part: str) -> str:
    return str(SemVer(version).bump(**{f"bump_{part}": True}).version)  # type: ignore[no-untyped-call]


def register(scm: Git, version: versions.Version, message: str) -> None:
    """Make the tag of a version."""
    with versions.gto_errors(f"{version.tag} is not registered"):
        create_tag(scm, version.tag, version.commit, message)


def check_stage(scm: Git, stage: str) -> None:
    """Raise `InputError` if GTO does not take a name for a stage, or if it would be read as a version."""
    with versions.gto_errors(f"{stage} is not assigned"):
        read_registry_config(str(Path(scm.root_dir) / CONFIG_FILE_NAME)).assert_stage(  # type: ignore[no-untyped-call]
            stage
        )
    if re.match(r"v\d", stage):
        raise InputError(
            f"{stage}: expected a stage that does not begin like a version, since {versions.ARTIFACT}@{stage} is read "
            "as one; give it another name, as prod or staging"
        )


def assign(scm: Git, version: versions.Version, stage: str, message: str) -> str:
    """Make the tag that gives a version a stage, later than all before it, and return its name.

    Git's clock has whole seconds, and GTO and DVC take the latest tag for the one that holds. GTO counts over all
    stages; the count of the stage alone gives two people who assign it at once the same name, and git takes just one.
    """
    taken = [tag for tag in versions.tags(scm) if tag.stage == stage]
    if latest := max((tag for tag in taken if tag.annotated), key=lambda tag: tag.time, default=None):
        wait = latest.time + 1 - time.time()
        if wait > PATIENCE:
            raise InputError(
                f"{latest} is dated {wait:,.0f} s after this machine's clock, and would hold {stage} until then; if "
                f"the clock here is right, delete that tag: {versions.deletion(latest.name)}; if not, correct the clock"
            )
        time.sleep(max(0, wait))
    number = max((tag.number for tag in taken), default=0) + 1
    name = f"{versions.ARTIFACT}#{stage}#{number}"
    with versions.gto_errors(f"{stage} is not assigned"):
        create_tag(scm, name, version.commit, message)
    return name


def write(scm: Git, name: str, commit: str, message: str) -> str:
    """Write an annotated tag of a commit, and return the tag's hash. Git lists the tag only after `keep`."""
    tagger = git(scm, "var", "GIT_COMMITTER_IDENT").strip()
    content = f"object {commit}\ntype commit\ntag {name}\ntagger {tagger}\n\n{message}"
    return git(scm, "mktag", entered=content).strip()


def keep(scm: Git, name: str, id_: str) -> None:
    """Give the tag that `write` made its name.

    Raises `InputError` if another tag has this name.
    """
    git(scm, "update-ref", f"refs/tags/{name}", id_, "0" * len(id_))
