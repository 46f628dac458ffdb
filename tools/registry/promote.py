"""Give a stage to a version that is proven better than its holder: `make promote VERSION=v1.1.0 STAGE=prod`.

The predictions of both versions are compared image by image, on the test images and on the candidate's own test
pictures. The stage is assigned if nobody holds it, or if the candidate is proven better on one of the two sets by the
exact McNemar test, and worse on neither. If not, nothing is assigned, and the exit code is 1. All comparisons on one
test set share the 5% for a false promotion, so each is recorded as a tag and pushed. Before the comparison, the remote
is asked for the tags of others, and the models predict the test images again.
`make rollback STAGE=prod` gives the stage back to its previous holder.
"""

import sys
from collections.abc import Mapping
from contextlib import closing

from scmrepo.git import Git

from stages import archive, dataset
from stages.errors import InputError, one_line_errors
from tools import ROOT, make_parser, tables
from tools.registry import agreement, attempts, remote, tags
from tools.registry.attempts import Attempt, OwnPictures
from tools.runs import lock, versions
from tools.runs.paired import Paired, Verdict, compare_revisions, figures
from tools.runs.revision import NotHereError, Revision, git_errors, read_bytes, read_lock, resolve
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
            else promote(
                scm, versions.find_version(scm, arguments.version), arguments.stage, origin, offline=arguments.offline
            )
        )
    if tag:
        print(remote.how_to_share(origin, tag))


def promote(scm: Git, candidate: Version, stage: str, origin: str, *, offline: bool) -> str | None:
    """Assign a stage to a candidate if nobody holds the stage, or if the candidate is proven better than the holder.

    Ends with exit code 1 if not. Returns the tag, or None if the candidate holds the stage already.
    """
    held = versions.holders(versions.assignments(scm, stage))
    holder = versions.version_of(held[-1]) if held else None
    if holder == candidate:
        print(f"{candidate.name} holds {stage} already")
        return None
    after = resolve(candidate.tag)
    read_bytes(after, archive.PATH)  # whoever uses the stage will want it
    check(after)
    if not holder:
        return assign(scm, candidate, stage, f"{stage} was free")
    before = resolve(holder.tag)
    check(before)
    paired = compare_revisions(before, after)
    own = agreement.compare_on_own(before, after)
    test_set = md5_of_test_images(after)
    known = attempts.load(scm, test_set)
    earlier = attempts.find(known, candidate, holder)
    number = earlier.attempt if earlier else attempts.next_number(known)
    attempt = attempts.judge(
        paired, own, number=number, test_set=test_set, stage=stage, candidate=candidate, holder=holder
    )
    if earlier:
        attempts.check_same(earlier, attempt)
        recorded = f"{earlier.name} decided on this pair on {earlier.date[:10]}; comparing it again spends nothing"
    else:
        recorded = record(scm, attempt, origin, offline=offline)
    told = [sentence(attempt, paired), attempt_sentence(attempt)]
    if attempt.own:
        told.append(own_sentence(attempt, attempt.own))
    print("\n".join([*told, "", table(paired), "", recorded]))
    if attempt.decision == "refused":
        print(f"{stage} stays with {holder.name}")
        sys.exit(1)
    return assign(scm, candidate, stage, told[0])


def check(of: Revision) -> None:
    """Check the recorded results with the model, unless model or images are in neither the cache nor the storage."""
    try:
        agreement.check(of)
    except NotHereError as error:
        print(f"note: the test images are not predicted again with {of}: {error}", file=sys.stderr)


def md5_of_test_images(of: Revision) -> str:
    """Return the MD5 of the test images of a revision.

    Raises `InputError` if its dvc.lock does not name it: without it, attempts cannot be counted.
    """
    md5 = read_lock(of).hashes.get(dataset.TEST.as_posix())
    if md5 is None:
        raise InputError(f"{lock.PATH} {of.place}: names no MD5 of {dataset.TEST}; {of.remake}")
    return md5


def record(scm: Git, attempt: Attempt, origin: str, *, offline: bool) -> str:
    """Record an attempt here and, before anyone sees its result, at the remote. Say where it is."""
    name = attempt.name
    id_ = tags.write(scm, name, attempt.candidate_commit, attempt.message)
    shares = not offline and remote.remotes(scm)
    if shares:
        remote.publish(scm, origin, name, id_)
    tags.keep(scm, name, id_)
    where = f"at {origin}" if shares else f"here alone; share it: git push {origin} '{name}'"
    return f"{name} records this attempt {where}"


AS: Mapping[Verdict, str] = {"better": "better than", "worse": "worse than", "inconclusive": "not proven better than"}


def sentence(attempt: Attempt, paired: Paired) -> str:
    """Say what the test images decide."""
    return (
        f"{attempt.candidate} is {AS[attempt.verdict]} {attempt.holder} on {paired.images:,} test images: "
        f"{figures(paired)}"
    )


def attempt_sentence(attempt: Attempt) -> str:
    """Say which attempt it is, and what it may spend."""
    return (
        f"attempt {attempt.attempt:,} on these test images: one-sided exact McNemar p = {attempt.p:.3g}, "
        f"and a promotion needs {attempt.alpha:.3g} or less{' here or on own test pictures' if attempt.own else ''}"
    )


def own_sentence(attempt: Attempt, own: OwnPictures) -> str:
    """Say what own test pictures decide."""
    return (
        f"{attempt.candidate} is {AS[attempt.own_verdict]} {attempt.holder} on {own.images:,} own test pictures: "
        f"{own.fixed:,} fixed, {own.broken:,} broken, p = {own.p:.3g}"
    )


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
