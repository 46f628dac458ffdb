"""Two clones and the repository between them: who has not fetched decides nothing."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scmrepo.git import Git

from stages.errors import InputError
from tests.clones import Clone, error_of
from tools.registry import attempts, promote, remote, tags
from tools.registry.attempts import Attempt, judge
from tools.runs import versions
from tools.runs.paired import compare_predictions

PROMOTE = ("python", "-m", "tools.registry.promote")
REGISTER = ("python", "-m", "tools.registry.register")
BACK = (*PROMOTE, "--rollback", "--stage", "prod")
LACKS = (
    "origin has tags that this clone lacks: lstm#prod#2, lstm#staging#1; run `git fetch --tags origin`, then this again"
)


class Pair(NamedTuple):
    git: Path  # the repository between them
    ann: Clone
    ben: Clone
    scm: Git  # Ben's


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Ann and Ben have the same tags: v1.0.0 holds prod, and v1.0.1 and v1.1.0 are registered."""
    hosted = tmp_path / "hosted.git"
    ann, ben = (Clone(tmp_path / name) for name in ("ann", "ben"))
    for clone in (ann, ben):
        clone.folder.mkdir()
        clone.run("git", "init", "--quiet", "--initial-branch=main")
        clone.run("git", "remote", "add", "origin", str(hosted))
    ann.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(hosted))
    for version in ("v1.0.0", "v1.0.1", "v1.1.0"):
        ann.run("git", "commit", "--quiet", "--allow-empty", "--message", version)
        give(ann, f"lstm@{version}", "HEAD")
    give(ann, "lstm#prod#1", "lstm@v1.0.0^{}")
    ann.run("git", "push", "--quiet", "--tags", "--set-upstream", "origin", "main")
    ben.run("git", "pull", "--quiet", "--tags", "origin", "main")
    ben.run("git", "branch", "--quiet", "--set-upstream-to=origin/main")
    for name, value in ben.environment.items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)
    with closing(Git(str(ben.folder))) as scm:
        yield Pair(hosted, ann, ben, scm)


def give(clone: Clone, tag: str, target: str) -> None:
    date = "2024-01-01T00:00:00Z"
    clone.run("git", "tag", "--annotate", "--message", tag, tag, target, GIT_COMMITTER_DATE=date)


def assigned(clone: Clone, version: str) -> str:
    """Give a version prod, as promote and rollback do."""
    with closing(Git(str(clone.folder))) as scm:
        return tags.assign(scm, versions.find_version(scm, version), "prod", "Why")


def refusal(scm: Git) -> str:
    with pytest.raises(InputError) as refused:
        remote.check(scm, offline=False)
    return str(refused.value)


def test_who_has_all_tags_or_more_may_decide(pair: Pair) -> None:
    assert remote.check(pair.scm, offline=False) == "origin"
    give(pair.ben, "lstm#staging#1", "lstm@v1.0.1^{}")
    give(pair.ann, "other@v1.0.0", "HEAD")
    give(pair.ann, "lstm@vx", "HEAD")
    pair.ann.run("git", "push", "--quiet", "--tags")
    assert remote.check(pair.scm, offline=False) == "origin"


def test_who_lacks_a_tag_of_the_remote_may_not(pair: Pair) -> None:
    give(pair.ann, "lstm#staging#1", "lstm@v1.0.1^{}")
    give(pair.ann, "lstm#prod#2", "lstm@v1.0.1^{}")
    pair.ann.run("git", "push", "--quiet", "--tags")
    assert refusal(pair.scm) == LACKS
    pair.ben.run("git", "fetch", "--quiet", "--tags", "origin")
    remote.check(pair.scm, offline=False)
    assert versions.find_holder(pair.scm, "prod").name == "v1.0.1"
    pair.ben.run("git", "tag", "--delete", *pair.ben.run("git", "tag").split())
    assert "lacks: lstm#prod#1, lstm#prod#2, lstm#staging#1, lstm@v1.0.0, lstm@v1.0.1" in refusal(pair.scm)


def test_of_two_at_once_git_takes_one_and_the_other_decides_again(pair: Pair) -> None:
    give(pair.ann, "lstm#staging#7", "lstm@v1.0.1^{}")  # of which Ben knows nothing
    assert assigned(pair.ann, "v1.0.1") == assigned(pair.ben, "v1.1.0") == "lstm#prod#2"
    pair.ann.run("git", "push", "--quiet", "origin", "lstm#prod#2")
    share, again = re.findall(": (git .*)", remote.how_to_share("origin", "lstm#prod#2"))
    assert "rejected" in pair.ben.run("sh", "-c", share, exit_code=1)
    # None of these shares it instead, and fetching alone does not help.
    pair.ben.run("git", "push", "--quiet", "origin", "main")
    pair.ben.run("git", "push", "--quiet", "--follow-tags", "origin", "main")
    assert "rejected" in pair.ben.run("git", "push", "--tags", "origin", exit_code=1)
    assert "would clobber existing tag" in pair.ben.run("git", "fetch", "--tags", "origin", exit_code=1)
    at_the_remote = pair.ann.run("git", "rev-parse", "lstm#prod#2")
    assert pair.ben.run("git", "ls-remote", "origin", "lstm#prod#2").split()[0] == at_the_remote.strip()

    refused = refusal(pair.scm)
    assert refused.startswith("lstm#prod#2: not the tag that origin has, so somebody else was first; `git tag -d ")
    (command,) = re.findall("`(.*)`", refused)
    assert again == f"{command}, then run this again"
    pair.ben.run("sh", "-c", command)
    assert pair.ben.run("git", "rev-parse", "lstm#prod#2") == at_the_remote
    remote.check(pair.scm, offline=False)
    assert versions.find_holder(pair.scm, "prod").name == "v1.0.1"
    assert assigned(pair.ben, "v1.1.0") == "lstm#prod#3"


def test_the_same_version_registered_twice_is_taken_once(pair: Pair) -> None:
    for clone in (pair.ann, pair.ben):
        clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "Another")
        give(clone, "lstm@v1.1.1", "HEAD")
    pair.ann.run("git", "push", "--quiet", "origin", "lstm@v1.1.1")
    pair.ben.run("git", "commit", "--quiet", "--amend", "--allow-empty", "--message", "Yet another")
    give(pair.ben, "lstm@v1.1.2", "HEAD")
    pair.ben.run("git", "tag", "--force", "--annotate", "--message", "m", "lstm@v1.1.1", "HEAD")
    assert "rejected" in pair.ben.run("git", "push", "origin", "lstm@v1.1.1", exit_code=1)
    assert refusal(pair.scm).startswith("lstm@v1.1.1: not the tag that origin has")


def test_a_remote_that_does_not_answer_is_no_consent(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    pair.git.rename(pair.git.with_name("gone"))
    refused = refusal(pair.scm)
    assert refused.startswith("origin cannot be asked for the tags of others (git ls-remote: fatal: ")
    assert refused.endswith("or decide on the tags that are here: --offline, with make OFFLINE=1")
    assert remote.check(pair.scm, offline=True) == "origin"
    assert capsys.readouterr().err == "note: origin is not asked for the tags of others\n"


def test_a_remote_that_is_silent_is_not_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.5)
    pair.ben.run("git", "config", "protocol.ext.allow", "always")
    pair.ben.run("git", "remote", "set-url", "origin", "ext::sleep 3")
    assert "origin cannot be asked for the tags of others (git ls-remote: no answer in 0.5 s)" in refusal(pair.scm)


def test_the_remote_of_the_branch_is_asked_too(pair: Pair, tmp_path: Path) -> None:
    other = tmp_path / "other.git"
    pair.ben.run("git", "clone", "--quiet", "--bare", str(pair.git), str(other))
    pair.ben.run("git", "remote", "add", "other", str(other))
    remote.check(pair.scm, offline=False)
    give(pair.ann, "lstm#prod#2", "lstm@v1.0.1^{}")
    pair.ann.run("git", "push", "--quiet", str(other), "lstm#prod#2")
    remote.check(pair.scm, offline=False)
    pair.ben.run("git", "push", "--quiet", "--set-upstream", "other", "main")
    assert refusal(pair.scm).startswith("other has tags that this clone lacks: lstm#prod#2; run `git fetch --tags oth")
    # With another name than origin, and at no branch, it is asked as the only one.
    pair.ben.run("git", "remote", "remove", "origin")
    pair.ben.run("git", "checkout", "--quiet", "--detach")
    assert refusal(pair.scm).startswith("other has tags")


def test_without_a_remote_it_goes_on_and_says_so(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    pair.ben.run("git", "remote", "remove", "origin")
    remote.check(pair.scm, offline=False)
    assert capsys.readouterr().err == (
        "note: this clone has no remote, so nobody else's versions and assignments are known\n"
    )


# Attempts

TEST_SET = "0123456789abcdef" * 2
FIRST = "lstm-attempt/0123456789ab/1"


def attempt(scm: Git, number: int = 1, candidate: str = "v1.0.1") -> Attempt:
    """Judge a candidate that is better on 20 images."""
    actual = np.zeros(100, int)
    return judge(
        compare_predictions(actual, (np.arange(100) < 20).astype(int), actual), None, number=number, test_set=TEST_SET,
        stage="prod", candidate=versions.find_version(scm, candidate), holder=versions.find_version(scm, "v1.0.0"),
    )  # fmt: skip


def listed(clone: Clone, *where: str) -> list[str]:
    return clone.run("git", *where, "refs/tags/lstm-attempt/*").split()


def test_an_attempt_is_recorded_here_and_at_the_remote_at_once(pair: Pair) -> None:
    recorded = promote.record(pair.scm, attempt(pair.scm), "origin", offline=False)
    assert recorded == f"{FIRST} records this attempt at origin"
    id_, name = listed(pair.ann, "ls-remote", "--refs", "origin")
    assert name == f"refs/tags/{FIRST}"
    assert pair.ben.run("git", "rev-parse", FIRST).strip() == id_
    assert pair.ben.run("git", "rev-parse", f"{FIRST}^{{}}") == pair.ben.run("git", "rev-parse", "lstm@v1.0.1^{}")
    remote.check(pair.scm, offline=False)
    with closing(Git(str(pair.ann.folder))) as of_ann:
        assert refusal(of_ann) == (
            f"origin has tags that this clone lacks: {FIRST}; run `git fetch --tags origin`, then this again"
        )
        pair.ann.run("git", "fetch", "--quiet", "--tags", "origin")
        remote.check(of_ann, offline=False)
        assert attempts.load(of_ann, TEST_SET) == attempts.load(pair.scm, TEST_SET)


def test_of_two_who_record_the_same_attempt_one_has_to_start_again_and_none_is_lost(pair: Pair) -> None:
    with closing(Git(str(pair.ann.folder))) as of_ann:
        promote.record(of_ann, attempt(of_ann), "origin", offline=False)
    with pytest.raises(InputError) as refused:
        promote.record(pair.scm, attempt(pair.scm, candidate="v1.1.0"), "origin", offline=False)
    assert str(refused.value) == (
        f"{FIRST}: somebody else recorded this attempt first; run `git fetch --tags origin`, then this again"
    )
    assert listed(pair.ben, "for-each-ref", "--format=%(refname)") == []
    pair.ben.run("git", "fetch", "--quiet", "--tags", "origin")
    (first,) = attempts.load(pair.scm, TEST_SET)
    assert first.candidate == "v1.0.1"
    promote.record(pair.scm, attempt(pair.scm, attempts.next_number([first]), "v1.1.0"), "origin", offline=False)
    pair.ann.run("git", "fetch", "--quiet", "--tags", "origin")
    with closing(Git(str(pair.ann.folder))) as of_ann:
        assert [each.candidate for each in attempts.load(of_ann, TEST_SET)] == ["v1.0.1", "v1.1.0"]


def test_an_attempt_that_the_remote_does_not_take_is_none(pair: Pair) -> None:
    hook = pair.git / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho the moon is full\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InputError) as refused:
        promote.record(pair.scm, attempt(pair.scm), "origin", offline=False)
    assert str(refused.value).startswith(
        f"origin does not take {FIRST}, which records this attempt, so nothing is decided (git push: remote: the moon "
    )
    assert str(refused.value).endswith("or record it here alone: --offline, with make OFFLINE=1")
    assert listed(pair.ben, "for-each-ref") == []


def test_a_hook_of_this_clone_that_forbids_the_push_is_quoted(pair: Pair) -> None:
    hook = pair.ben.folder / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\necho models/lstm.keras: not in the storage\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InputError, match=r"\(git push: models/lstm\.keras: not in the storage error: failed to push"):
        promote.record(pair.scm, attempt(pair.scm), "origin", offline=False)


def test_an_attempt_recorded_offline_is_shared_before_the_next(pair: Pair) -> None:
    recorded = promote.record(pair.scm, attempt(pair.scm), "origin", offline=True)
    assert recorded == f"{FIRST} records this attempt here alone; share it: git push origin '{FIRST}'"
    assert listed(pair.ann, "ls-remote", "origin") == []
    refused = refusal(pair.scm)
    assert refused == (
        f"origin lacks attempts that this clone recorded: {FIRST}; run `git push origin '{FIRST}'`, then this again"
    )
    remote.check(pair.scm, offline=True)
    (command,) = re.findall("`(.*)`", refused)
    pair.ben.run("sh", "-c", f"{command} --quiet")
    remote.check(pair.scm, offline=False)


def test_an_attempt_recorded_offline_after_another_is_counted_again(pair: Pair) -> None:
    promote.record(pair.scm, attempt(pair.scm, candidate="v1.1.0"), "origin", offline=True)
    with closing(Git(str(pair.ann.folder))) as of_ann:
        promote.record(of_ann, attempt(of_ann), "origin", offline=False)
    refused = refusal(pair.scm)
    assert refused.startswith(f"{FIRST}: not the tag that origin has, so somebody else was first; ")
    assert refused.endswith("replaces it, then promote the same version again, so that the attempt is counted")
    (command,) = re.findall("`(.*)`", refused)
    pair.ben.run("sh", "-c", command)
    known = attempts.load(pair.scm, TEST_SET)
    assert [each.candidate for each in known] == ["v1.0.1"]
    again = versions.find_version(pair.scm, "v1.1.0"), versions.find_version(pair.scm, "v1.0.0")
    assert attempts.find(known, *again) is None
    assert attempts.next_number(known) == 2


def test_without_a_remote_an_attempt_stays_here(pair: Pair) -> None:
    pair.ben.run("git", "remote", "remove", "origin")
    recorded = promote.record(pair.scm, attempt(pair.scm), "origin", offline=False)
    assert recorded == f"{FIRST} records this attempt here alone; share it: git push origin '{FIRST}'"


def test_only_the_remote_that_gets_attempts_must_have_them(pair: Pair, tmp_path: Path) -> None:
    other = tmp_path / "other.git"
    pair.ben.run("git", "clone", "--quiet", "--bare", str(pair.git), str(other))
    pair.ben.run("git", "remote", "add", "other", str(other))
    pair.ben.run("git", "push", "--quiet", "--set-upstream", "other", "main")
    promote.record(pair.scm, attempt(pair.scm), "origin", offline=False)
    remote.check(pair.scm, offline=False)


def test_gto_and_older_clones_do_not_see_attempts(pair: Pair) -> None:
    before = pair.ben.run("gto", "show", "--json"), pair.ben.run("gto", "history", "--json"), versions.tags(pair.scm)
    promote.record(pair.scm, attempt(pair.scm), "origin", offline=False)
    after = pair.ben.run("gto", "show", "--json"), pair.ben.run("gto", "history", "--json"), versions.tags(pair.scm)
    assert after == before
    assert versions.find_holder(pair.scm, "prod").name == "v1.0.0"
    # The next tags have the names that they would have without it.
    assert tags.next_version(pair.scm, "patch") == "v1.1.1"
    assert assigned(pair.ben, "v1.0.1") == "lstm#prod#2"


def test_every_command_asks_before_it_decides(releases: Clone, tmp_path: Path) -> None:
    stale = releases.copy(releases.folder.parent / "stale")
    hosted = str(tmp_path / "hosted.git")
    releases.run("git", "init", "--quiet", "--bare", hosted)
    give(releases, "lstm#staging#1", "run-v1.0.1")
    give(releases, "lstm#prod#1", "run-v1.0.0")
    give(releases, "lstm#prod#2", "run-v1.0.1")
    releases.run("git", "push", "--quiet", "--tags", hosted, "main")
    stale.run("git", "remote", "add", "origin", hosted)
    give(stale, "lstm#prod#1", "run-v1.0.0")
    before = stale.run("git", "tag")
    for command in ((*PROMOTE, "v1.1.0", "--stage", "prod"), BACK, REGISTER):
        assert error_of(stale.run(*command, exit_code=1)) == f"error: {LACKS}"
    assert stale.run("git", "tag") == before
    assert "no version held the stage prod before v1.0.0" in error_of(stale.run(*BACK, "--offline", exit_code=1))
    assert "this commit is v1.1.1 already" in error_of(stale.run(*REGISTER, "--offline", exit_code=1))
