"""Tags as people and other programs leave them, read as GTO reads them where GTO is right."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scmrepo.git import Git

from stages.errors import InputError
from tests.clones import Clone
from tools.registry import tags
from tools.runs import versions

DAY = 24 * 60 * 60
EVENTS = {
    "lstm@v1.0.0": "one",
    "lstm@v1.1.0": "two",
    "lstm@v1.10.0": "three",
    "lstm#prod#1": "one",
    "lstm#prod#2": "two",
}


@pytest.fixture
def made(tmp_path: Path) -> Clone:
    """A repository with commits `one` to `four`, the first three of them registered; v1.0.0 held prod, v1.1.0 does."""
    clone = Clone(tmp_path)
    clone.run("git", "init", "--quiet")
    for name in ("one", "two", "three", "four"):
        clone.run("git", "commit", "--quiet", "--allow-empty", "--message", name)
        clone.run("git", "tag", name)
    for at, (name, commit) in enumerate(EVENTS.items()):
        tag(clone, name, commit, at)
    return clone


@pytest.fixture
def scm(made: Clone) -> Iterator[Git]:
    with closing(Git(str(made.folder))) as opened:
        yield opened


def tag(clone: Clone, name: str, target: str, at: float, *options: str) -> None:
    """Make an annotated tag, dated so many seconds after a moment of a day ago."""
    date = f"{int(time.time()) - DAY + int(at)} +0000"
    clone.run("git", "tag", "--annotate", "--message", f"Why {name}", *options, name, target, GIT_COMMITTER_DATE=date)


def names(scm: Git) -> list[str]:
    return [version.name for version in versions.registered(scm)]


def blob(clone: Clone) -> str:
    return clone.run("git", "hash-object", "-w", ".git/HEAD").strip()


def test_versions_are_in_their_order_and_the_last_assignment_holds(scm: Git) -> None:
    assert names(scm) == ["v1.0.0", "v1.1.0", "v1.10.0"]
    assert versions.find_holder(scm, "prod").name == "v1.1.0"
    assert versions.find_holder_before(scm, "prod").name == "v1.0.0"
    assert versions.message(scm, versions.find_version(scm, "v1.1.0")) == "Why lstm@v1.1.0"


@pytest.mark.parametrize(
    ("events", "holder"),
    [
        ([], "v1.1.0"),
        ([("lstm#prod#3", "three")], "v1.10.0"),
        ([("lstm#prod!#3", "two")], "v1.0.0"),
        ([("lstm#prod!#3", "one")], "v1.1.0"),
        ([("lstm#prod!#3", "two"), ("lstm#prod#4", "two")], "v1.1.0"),
        ([("lstm@v1.1.0!#3", "two")], "v1.0.0"),
        ([("lstm#dev#3", "three")], "v1.1.0"),
    ],
)
def test_the_holder_is_whom_gto_shows(events: list[tuple[str, str]], holder: str, made: Clone, scm: Git) -> None:
    for at, (name, commit) in enumerate(events, start=10):
        tag(made, name, commit, at)
    assert versions.find_holder(scm, "prod").name == holder
    assert json.loads(made.run("gto", "show", "lstm#prod", "--json"))[0]["version"] == holder
    shown = json.loads(made.run("gto", "show", "lstm", "--json"))
    assert [row["version"] for row in shown] == names(scm)[::-1]


def odd(clone: Clone) -> None:
    """Make every tag that is not of a version or a stage."""
    tag(clone, "lstm@v5.0.0", blob(clone), 20)
    tag(clone, "lstm@v6.0.0", "HEAD^{tree}", 21)
    tag(clone, "other@v8.0.0", "four", 22)
    clone.run("git", "tag", "lstm@v9.9.9", "four")  # without a message: lightweight
    clone.run("git", "tag", "lstm#prod#9", "three")
    for number, name in enumerate(
        ("lstm@v1", "lstm@vx", "lstm@v1.0", "lstm@created", "lstm@deprecated", "lstm", "lstm#")
    ):
        tag(clone, name, "four", 30 + number)
    latin = f"object {clone.run('git', 'rev-parse', 'four').strip()}\ntype commit\ntag lstm@v1.11.0\n"
    for name, text in (("v1.11.0", latin + "tagger Zoé <z@example.org> 1700000000 +0000\n\nZoé\n"), ("v1.12.0", latin)):
        (clone.folder / "tag").write_bytes(text.encode("latin-1") + b"\n")
        made_of = clone.run("git", "hash-object", "-t", "tag", "-w", "--literally", "tag").strip()
        clone.run("git", "update-ref", f"refs/tags/lstm@{name}", made_of)


def test_odd_tags_break_nothing(made: Clone, scm: Git) -> None:
    before = versions.find_holder(scm, "prod"), versions.find_version(scm, "v1.1.0")
    odd(made)
    assert (versions.find_holder(scm, "prod"), versions.find_version(scm, "v1.1.0")) == before
    # Without a tagger, or in another encoding, a tag is one all the same; of no commit, or lightweight, it is none.
    assert names(scm) == ["v1.0.0", "v1.1.0", "v1.10.0", "v1.11.0", "v1.12.0"]
    for name in ("v5.0.0", "v9.9.9", "v1", "created"):
        with pytest.raises(InputError, match=f"{name}: no registered version; found v1.0.0"):
            versions.find_version(scm, name)


def test_a_tag_of_a_tag_is_of_its_commit(made: Clone, scm: Git) -> None:
    tag(made, "lstm@v2.0.0", "lstm@v1.10.0", 10)
    assert versions.find_version(scm, "v2.0.0").commit == made.run("git", "rev-parse", "three").strip()
    tag(made, "lstm#prod#3", "lstm@v1.10.0", 11)
    assert versions.find_holder(scm, "prod").commit == made.run("git", "rev-parse", "three").strip()


def test_a_number_once_given_is_not_given_again(made: Clone, scm: Git) -> None:
    assert [tags.next_version(scm, part) for part in tags.PARTS] == ["v1.10.1", "v1.11.0", "v2.0.0"]
    tag(made, "lstm@v1.10.0!#7", "three", 10)
    assert tags.next_version(scm, "patch") == "v1.10.1"
    made.run("git", "tag", "lstm@v2.0.0", "one")
    assert tags.next_version(scm, "major") == "v2.0.1"
    tag(made, "lstm@v5.0.0", blob(made), 11)
    assert tags.next_version(scm, "patch") == "v5.0.1"


def test_a_stage_is_counted_alone_and_no_tag_is_used_again(made: Clone, scm: Git) -> None:
    one, two = versions.registered(scm)[:2]
    assert tags.assign(scm, two, "dev", "Why") == "lstm#dev#1"
    assert tags.assign(scm, one, "prod", "Why") == "lstm#prod#3"
    made.run("git", "tag", "lstm#prod#7", "one")
    assert tags.assign(scm, two, "prod", "Why") == "lstm#prod#8"
    tag(made, "lstm#prod!#11", "one", 0)
    assert tags.assign(scm, one, "prod", "Why") == "lstm#prod#12"
    assert versions.find_holder(scm, "prod") == one
    made.run("git", "tag", "--delete", "lstm#prod#7")
    assert json.loads(made.run("gto", "show", "lstm#prod", "--json"))[0]["version"] == "v1.0.0"


@pytest.mark.parametrize("change", ["missing", "moved"])
def test_a_holder_without_its_version_is_named(change: str, made: Clone, scm: Git) -> None:
    if change == "missing":
        made.run("git", "tag", "--delete", "lstm@v1.1.0")
    else:
        tag(made, "lstm@v1.1.0", "four", 10, "--force")
    with pytest.raises(InputError) as refused:
        versions.find_holder(scm, "prod")
    commit = made.run("git", "rev-parse", "two").strip()[:10]
    assert re.match(
        rf"lstm#prod#2 \(by A <a@example\.org>, [-\d]+ [:\d]+ \+0000: Why lstm#prod#2\) gives prod to commit {commit}, "
        r"which is no registered version here: .*`git fetch --tags --force` brings .* "
        r"`git tag -d 'lstm#prod#2'` and `git push origin --delete 'lstm#prod#2'`",
        str(refused.value),
    )
    # What it names helps.
    made.run("git", "tag", "-d", "lstm#prod#2")
    assert versions.find_holder(scm, "prod").name == "v1.0.0"


def test_an_assignment_of_no_commit_is_named(made: Clone, scm: Git) -> None:
    tag(made, "lstm#prod#3", blob(made), 10)
    with pytest.raises(InputError, match=r"lstm#prod#3 \(by A .*\) gives prod to no commit, which is no registered"):
        versions.find_holder(scm, "prod")


def test_who_held_before_and_is_missing_is_named(made: Clone, scm: Git) -> None:
    made.run("git", "tag", "--delete", "lstm@v1.0.0")
    assert versions.find_holder(scm, "prod").name == "v1.1.0"
    with pytest.raises(InputError, match=r"lstm#prod#1 \(by A .*\) gives prod to commit"):
        versions.find_holder_before(scm, "prod")


@pytest.mark.parametrize(("name", "commit"), [("lstm#prod#3", "three"), ("lstm#prod!#3", "two")])
def test_a_tag_of_the_future_is_named_with_its_maker(name: str, commit: str, made: Clone, scm: Git) -> None:
    tag(made, name, commit, 3 * DAY)
    one = versions.find_version(scm, "v1.0.0")
    with pytest.raises(InputError) as refused:
        tags.assign(scm, one, "prod", "Why")
    assert re.match(
        rf"{name} \(by A <a@example\.org>, [-\d]+ [:\d]+ \+0000: Why {name}\) is dated 172,\d\d\d s after "
        rf"this machine's clock, .* `git tag -d '{name}'` and `git push origin --delete '{name}'`; if not, corr",
        str(refused.value),
    )
    assert tags.assign(scm, one, "dev", "Why") == "lstm#dev#1", "another stage is not concerned"
    made.run("git", "tag", "-d", name)
    assert tags.assign(scm, one, "prod", "Why") == "lstm#prod#3"


@pytest.mark.parametrize("stage", ["v2", "v2-beta", "v0", "no name!", "", "-x"])
def test_a_stage_that_could_not_be_read_is_refused(stage: str, scm: Git) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(stage)}"):
        tags.check_stage(scm, stage)


@pytest.mark.parametrize("stage", ["prod", "v", "vega", "very-v2"])
def test_other_stages_are_taken(stage: str, scm: Git) -> None:
    tags.check_stage(scm, stage)


def test_gtos_own_list_of_stages_is_kept_to(made: Clone, scm: Git) -> None:
    (made.folder / ".gto").write_text("stages: [dev, prod]\n")
    tags.check_stage(scm, "dev")
    with pytest.raises(InputError, match="staging is not assigned"):
        tags.check_stage(scm, "staging")
