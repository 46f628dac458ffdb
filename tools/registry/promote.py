"""Give a stage to a version that is proven better than its holder: `make promote VERSION=v1.1.0 STAGE=prod`.

Both versions' predictions of the same test images are compared, paired. The stage is assigned if nobody holds it, or if
the candidate is better by the exact McNemar test (p < 0.05). If it is worse, or that is not certain, nothing is
assigned, and the exit code is 1. `make rollback STAGE=prod` gives the stage back to who held it before its holder first
got it.
"""

import sys
from contextlib import closing

from scmrepo.git import Git

from stages.errors import one_line_errors
from tools import ROOT, make_parser, tables
from tools.registry import tags
from tools.runs import versions
from tools.runs.paired import Paired, compare_revisions, sentence
from tools.runs.revision import resolve
from tools.runs.versions import Version


def main() -> None:
    parser = make_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", nargs="?", help="the candidate: v1.1.0")
    what.add_argument("--rollback", action="store_true", help="give the stage back to who held it before")
    parser.add_argument("--stage", required=True, help="prod, or another name")
    arguments = parser.parse_args()
    with closing(Git(str(ROOT))) as scm:
        if arguments.rollback:
            roll_back(scm, arguments.stage)
        else:
            promote(scm, versions.find_version(scm, arguments.version), arguments.stage)


def promote(scm: Git, candidate: Version, stage: str) -> None:
    """Assign a stage to a candidate if it is free, or held by one proven worse; end with exit code 1 if not."""
    holders = versions.holders(versions.assignments(scm, stage))
    if not holders:
        assign(scm, candidate, stage, f"{stage} was free")
        return
    holder = holders[-1]
    if holder == candidate:
        print(f"{candidate.name} holds {stage} already")
        return
    paired = compare_revisions(resolve(holder.tag), resolve(candidate.tag))
    verdict = sentence(paired, holder.name, candidate.name)
    print(f"{verdict}\n\n{table(paired)}\n")
    if paired.verdict != "better":
        print(f"{stage} stays with {holder.name}")
        sys.exit(1)
    assign(scm, candidate, stage, verdict)


def roll_back(scm: Git, stage: str) -> None:
    """Give a stage back to the version that held it before its holder first got it."""
    holder = versions.find_holder(scm, stage)
    before = versions.find_holder_before(scm, stage)
    assign(scm, before, stage, f"Rolled back from {holder.name}")


def assign(scm: Git, version: Version, stage: str, reason: str) -> None:
    tag = tags.assign(scm, version, stage, reason)
    print(f"{version.name} holds {stage}\nShare it: git push origin '{tag}'")


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
