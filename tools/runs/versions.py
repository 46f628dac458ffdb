"""The registered versions of the model and the stages they hold: git tags as GTO writes and reads them.

`lstm@v1.2.0` registers a version, `lstm#prod#3` assigns it a stage; the newest assignment holds.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gto.constants import Action
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
class Tag:
    """A tag with a name that GTO reads as of this model."""

    name: str
    action: Action | None
    version: str | None
    stage: str | None
    number: int  # 0 if the name has none
    annotated: bool  # GTO ignores the others
    commit: str | None  # None if the tag is of no commit
    time: int  # seconds since 1970
    made: str  # by whom, when and why

    def __str__(self) -> str:
        return f"{self.name} ({self.made})"


@dataclass(frozen=True)
class Assignment:
    """A version got a stage, or lost it."""

    tag: Tag
    version: Version | None  # None if no version is registered at the tag's commit

    @property
    def lost(self) -> bool:
        return self.tag.action == Action.UNASSIGN


# GTO's own look-ups fail at a tag of a blob, or without a tagger, and take a stage from a holder without a version tag;
# DVC's takes the loss of a stage for its assignment. So GTO reads the names alone, and git the tags.
FIELDS = (
    "refname:strip=2", "objecttype", "taggerdate:unix", "taggername", "taggeremail", "taggerdate:iso",
    "contents:subject",
)  # fmt: skip


def tags(scm: Git) -> list[Tag]:
    """Return all tags of the model, the newest last; of one second, which is git's resolution, by their number."""
    printed = git(scm, "for-each-ref", f"--format={'%00'.join(f'%({field})' for field in FIELDS)}", "refs/tags")
    rows = [row.split("\0") for row in printed.split("\n") if row]
    named = [
        (row, parsed) for row in rows if (parsed := parse_name(row[0], raise_on_fail=False)).get("name") == ARTIFACT
    ]
    commits = git(
        scm, "cat-file", "--batch-check=%(objectname)",
        entered="".join(f"refs/tags/{row[0]}^{{commit}}\n" for row, _ in named),
    ).splitlines()  # fmt: skip
    found = [
        Tag(
            name,
            parsed.get("action"),
            parsed.get("version"),
            parsed.get("stage"),
            parsed.get("counter", 0),
            annotated=kind == "tag",
            commit=None if " " in commit else commit,
            time=int(time or 0),
            made=f"by {who} {email}, {date}: {subject}",
        )
        for ((name, kind, time, who, email, date, subject), parsed), commit in zip(named, commits, strict=True)
    ]
    return sorted(found, key=lambda tag: (tag.time, tag.number))


def registered(scm: Git) -> list[Version]:
    """Return the registered versions, the highest last."""
    return _registered(tags(scm))


def _registered(known: list[Tag]) -> list[Version]:
    found: dict[str, Version] = {}
    for tag in known:
        if tag.annotated and tag.version:
            if tag.action == Action.DEREGISTER:
                found.pop(tag.version, None)
            elif tag.commit:
                found[tag.version] = Version(tag.version, tag.commit)
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
    """Return who got or lost a stage, the newest last; a version that was deregistered holds nothing."""
    known = [tag for tag in tags(scm) if tag.annotated]
    versions = {version.commit: version for version in _registered(known)}
    deregistered = {tag.commit for tag in known if tag.action == Action.DEREGISTER} - set(versions)
    return [
        Assignment(tag, versions.get(tag.commit or ""))
        for tag in known
        if tag.stage == stage and not (tag.commit and tag.commit in deregistered)
    ]


def holders(assigned: list[Assignment]) -> list[Assignment]:
    """Return the assignments that a stage's history leaves in force, the one that holds last."""
    held: list[Assignment] = []
    for each in assigned:
        held = [other for other in held if other.tag.commit != each.tag.commit]
        if not each.lost:
            held.append(each)
    return held


def version_of(assigned: Assignment) -> Version:
    """Return the version that got a stage.

    Raises `InputError` if its own tag is not here, or of another commit.
    """
    if assigned.version is None:
        tag = assigned.tag
        raise InputError(
            f"{tag} gives {tag.stage} to {f'commit {tag.commit[:10]}' if tag.commit else 'no commit'}, which is no "
            "registered version here: the version's tag is missing or was moved; `git fetch --tags --force` brings the "
            f"remote's tags; if the version is gone for good, delete {tag.name}: {deletion(tag.name)}"
        )
    return assigned.version


def deletion(name: str) -> str:
    """Give the commands that delete a tag here and for everyone."""
    return f"`git tag -d '{name}'` and `git push origin --delete '{name}'`"


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
    return version_of(held[-1])


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
    return version_of(held[-1])


def message(scm: Git, version: Version) -> str:
    """Read what a version's tag says."""
    name = next(tag.name for tag in reversed(tags(scm)) if (tag.version, tag.commit) == (version.name, version.commit))
    return git(scm, "for-each-ref", "--format=%(contents)", f"refs/tags/{name}").strip()


def git(scm: Git, *arguments: str, entered: str = "", patience: float | None = None) -> str:
    """Run a command of git in a repository, and return what it prints.

    Raises `InputError` if it fails, or takes longer than so many seconds.
    """
    try:
        done = subprocess.run(  # noqa: S603 - none of the arguments is an option that somebody else chose
            ["git", *arguments],  # noqa: S607 - the user's own
            cwd=scm.root_dir, input=entered, capture_output=True, encoding="utf-8", errors="replace",
            timeout=patience, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError(f"git {arguments[0]}: no answer in {patience} s") from None
    if done.returncode:
        # A hook's reasons are on its standard output.
        raise InputError(f"git {arguments[0]}: {' '.join((done.stdout + done.stderr).split())}")
    return done.stdout


@contextmanager
def gto_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (GTOException, SCMError) as error:
        raise InputError(f"{what}: {error}") from None
