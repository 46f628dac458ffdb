"""What a revision is, for people: its subject, author and date, and which of two is older."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pygit2
from dvc.repo.experiments.refs import EXPS_NAMESPACE, ITER_SKIP_NAMESPACES

from stages import report
from tools.runs.revision import Revision, git_errors, opened


@dataclass(frozen=True)
class About:
    """What a revision is."""

    kind: str  # commit, experiment or workspace
    commit: str  # of the revision itself; of the workspace, the commit below it
    subject: str  # of the commit; of an experiment or of the workspace, of the commit below it
    author: str
    date: datetime

    def __str__(self) -> str:
        """Describe the revision in one line."""
        day = f"{self.date:%-d %B %Y, %H:%M}"
        match self.kind:
            case "workspace":
                return f"not committed, on top of {self.commit[:10]} “{self.subject}”, {day}"
            case "experiment":
                return f"experiment {self.commit[:10]} on “{self.subject}”, {self.author}, {day}"
            case _:
                return f"commit {self.commit[:10]} “{self.subject}”, {self.author}, {day}"


def describe(revision: Revision) -> About:
    """Describe a revision."""
    with git_errors(revision.repo), opened(revision.repo) as (dvc, git):
        if not revision.commit:
            head = git[git.head.target].peel(pygit2.Commit)
            made = Path(dvc.root_dir) / report.PATH
            date = datetime.fromtimestamp(made.stat().st_mtime, UTC).astimezone() if made.exists() else _date(head)
            return About("workspace", str(head.id), _subject(head), head.author.name, date)
        commit = git[revision.commit].peel(pygit2.Commit)
        return of_commit(git, commit, is_experiment=revision.commit in experiments(git).values())


def of_commit(git: pygit2.Repository, commit: pygit2.Commit, *, is_experiment: bool) -> About:
    """Describe a commit."""
    told = git[commit.parent_ids[0]].peel(pygit2.Commit) if is_experiment and commit.parent_ids else commit
    kind = "experiment" if is_experiment else "commit"
    return About(kind, str(commit.id), _subject(told), commit.author.name, _date(commit))


def experiments(git: pygit2.Repository) -> dict[str, str]:
    """Return the commit of every experiment, by its reference."""
    found = {}
    for reference in git.references.iterator():
        if reference.name.startswith(f"{EXPS_NAMESPACE}/") and not reference.name.startswith(SKIPPED):
            found[reference.name] = str(reference.target)
    return found


SKIPPED = tuple(f"{namespace}/" for namespace in ITER_SKIP_NAMESPACES)


def in_order(one: Revision, other: Revision) -> tuple[Revision, Revision]:
    """Return two revisions, the older first: the workspace is the newest; an ancestor is older than what follows it."""
    if not (one.commit and other.commit):
        return (one, other) if one.commit else (other, one)
    with git_errors(one.repo), opened(one.repo) as (_, git):
        if git.descendant_of(one.commit, other.commit):
            return other, one
        if git.descendant_of(other.commit, one.commit):
            return one, other
        times = [git[each.commit].peel(pygit2.Commit).commit_time for each in (one, other)]
    return (other, one) if times[0] > times[1] else (one, other)


def _subject(commit: pygit2.Commit) -> str:
    return commit.message.strip().partition("\n")[0]


def _date(commit: pygit2.Commit) -> datetime:
    return datetime.fromtimestamp(commit.commit_time, timezone(timedelta(minutes=commit.commit_time_offset)))
