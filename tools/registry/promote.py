"""Give a stage to a version that is proven better than its holder: `make promote VERSION=v1.1.0 STAGE=prod`.

Both versions' predictions of the same test images are compared, paired. The stage is assigned if nobody holds it, or if
the candidate is better by the exact McNemar test (p < 0.05). If it is worse, or that is not certain, nothing is
assigned, and the exit code is 1. First the remote is asked for the tags of others, and the models predict the test
images again. `make rollback STAGE=prod` gives the stage back to its previous holder.
"""

import sys
from contextlib import closing

from scmrepo.git import Git

from stages import archive
from stages.errors import one_line_errors
from tools import ROOT, make_parser, tables
from tools.registry import agreement, remote, tags
from tools.runs import versions
from tools.runs.paired import Paired, compare_revisions, sentence
from tools.runs.revision import git_errors, read_bytes, resolve
from tools.runs.versions import Version


def main() -> None:
    parser = make_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", nargs="?", help="the candidate: v1.1.0")
    what.add_argument("--rollback", action="store_true", help="give the stage back to its previous holder")
    parser.add_argument("--stage", required=True, help="prod, or another name")
    parser.add_argument("--offline", action="store_true", help="do not ask the remote for the tags of others")
    arguments = parser.parse_args()
    with git_errors(ROOT), closing(Git(str(ROOT))) as scm:
        tags.check_stage(scm, arguments.stage)
        origin = remote.check(scm, offline=arguments.offline)
        tag = (
            roll_back(scm, arguments.stage)
            if arguments.rollback
            else promote(scm, versions.find_version(scm, arguments.version), arguments.stage)
        )
    if tag:
        print(remote.shared(origin, tag))


def promote(scm: Git, candidate: Version, stage: str) -> str | None:
    """Assign a stage to a candidate if it is free, or held by one proven worse; end with exit code 1 if not.

    Returns the tag, or None if the candidate holds the stage already.
    """
    held = versions.holders(versions.assignments(scm, stage))
    holder = versions.version_of(held[-1]) if held else None
    if holder == candidate:
        print(f"{candidate.name} holds {stage} already")
        return None
    after = resolve(candidate.tag)
    read_bytes(after, archive.PATH)  # whoever uses the stage will want it
    agreement.check(after)
    if not holder:
        return assign(scm, candidate, stage, f"{stage} was free")
    before = resolve(holder.tag)
    agreement.check(before)
    paired = compare_revisions(before, after)
    verdict = sentence(paired, holder.name, candidate.name)
    print(f"{verdict}\n\n{table(paired)}\n")
    if paired.verdict != "better":
        print(f"{stage} stays with {holder.name}")
        sys.exit(1)
    return assign(scm, candidate, stage, verdict)


def roll_back(scm: Git, stage: str) -> str:
    """Give a stage back to the version that held it before its holder first got it."""
    holder = versions.find_holder(scm, stage)
    before = versions.find_holder_before(scm, stage)
    read_bytes(resolve(before.tag), archive.PATH)  # whoever uses the stage will want it
    return assign(scm, before, stage, f"Rolled back from {holder.name}")


def assign(scm: Git, version: Version, stage: str, reason: str) -> str:
    tag = tags.assign(scm, version, stage, f"{version.tag}: {reason}")
    print(f"{version.name} holds {stage}")
    return tag


def table(paired: Paired) -> str:
    """Lay out what changed of each digit."""
    head = ("digit", "images", "right before", "right after", "fixed", "broken")
    rows = [
        (each.digit, f"{each.images:,}", f"{each.right_before:,}", f"{each.right_after:,}", each.fixed, each.broken)
        for each in paired.per_class
    ]
    return tables.text(head, rows)


if __name__ == "__main__":
    with one_line_errors():
        main()
