import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from gto.constants import Action

from stages.errors import InputError
from tests.clones import Clone, error_of
from tools.registry.attempts import judge, share_of
from tools.registry.promote import md5_of_test_images, own_sentence, sentence, table
from tools.runs.paired import compare_predictions, one_sided
from tools.runs.revision import read_bytes, resolve
from tools.runs.versions import Assignment, Tag, Version, holders

PROMOTE = ("python", "-m", "tools.registry.promote")


def promote(clone: Clone, version: str, exit_code: int = 0) -> str:
    return clone.run(*PROMOTE, version, "--stage", "prod", exit_code=exit_code)


def roll_back(clone: Clone, exit_code: int = 0) -> str:
    return clone.run(*PROMOTE, "--rollback", "--stage", "prod", exit_code=exit_code)


def holder(clone: Clone) -> str:
    """Who holds prod, as GTO and as DVC say."""
    (shown,) = clone.json("gto", "show", "lstm#prod", "--json")
    clone.run("dvc", "artifacts", "get", ".", "lstm", "--stage", "prod", "--out", "got.keras", "--force")
    assert (clone.folder / "got.keras").read_bytes() == read_bytes(
        resolve(f"lstm@{shown['version']}", clone.folder), "models/lstm.keras"
    )
    return str(shown["version"])


def attempts(clone: Clone) -> dict[int, Any]:
    """The records of all attempts, by number."""
    names = clone.run("git", "tag", "--list", "lstm-attempt/*").split()
    md5 = yaml.safe_load(clone.run("git", "show", "main:dvc.lock"))["stages"]["prepare"]["outs"]
    assert {name.split("/")[1] for name in names} <= {
        out["md5"][:12] for out in md5 if out["path"].endswith("test.npz")
    }
    return {
        int(name.split("/")[2]): yaml.safe_load(clone.run("git", "tag", "--list", "--format=%(contents)", name))
        for name in names
    }


def shared(number: int) -> list[str]:
    tag = f"lstm#prod#{number}"
    return [
        f"Share it: git push origin '{tag}'",
        f"If git rejects it, somebody was first: git tag -d '{tag}' && git fetch --tags origin, then run this again",
    ]


def test_all_three_verdicts_and_rollback(releases: Clone) -> None:
    assert promote(releases, "v1.0.0").splitlines() == ["v1.0.0 holds prod", *shared(1)]
    assert holder(releases) == "v1.0.0"
    assert attempts(releases) == {}, "nothing was compared"

    better = promote(releases, "lstm@v1.0.1")
    assert better.startswith("v1.0.1 is better than v1.0.0 on 359 test images: ")
    assert re.search(
        r"^attempt 1 on these .* p = \S+e-\d+, and a promotion needs 0\.00833 or less$", better, re.MULTILINE
    )
    assert better.splitlines()[-3:] == ["v1.0.1 holds prod", *shared(2)]
    assert holder(releases) == "v1.0.1"
    message = releases.run("git", "tag", "--list", "--format=%(contents)", "lstm#prod#2")
    assert message.strip() == f"lstm@v1.0.1: {better.splitlines()[0]}"

    worse = promote(releases, "v1.1.0", exit_code=1)
    assert "v1.1.0 is worse than v1.0.1 on 359 test images: " in worse
    assert "\nattempt 2 on these test images: one-sided exact McNemar p = 1, and a promotion needs 0.00595 or " in worse
    assert "\nprod stays with v1.0.1\n" in worse
    assert promote(releases, "v1.0.1") == "v1.0.1 holds prod already\n"

    assert roll_back(releases).splitlines() == ["v1.0.0 holds prod", *shared(3)]
    assert holder(releases) == "v1.0.0"
    inconclusive = promote(releases, "v1.1.1", exit_code=1)
    assert "v1.1.1 is not proven better than v1.0.0 on 359 test images: " in inconclusive
    assert "\nattempt 3 on these test images: " in inconclusive
    assert error_of(roll_back(releases, exit_code=1)).startswith(
        "error: lstm@prod: no version held the stage prod before v1.0.0; `gto assign lstm"
    )
    assert holder(releases) == "v1.0.0"

    recorded = attempts(releases)
    assert {
        number: (each["candidate"], each["holder"], each["decision"]) for number, each in recorded.items()
    } == {
        1: ("v1.0.1", "v1.0.0", "promoted"), 2: ("v1.1.0", "v1.0.1", "refused"), 3: ("v1.1.1", "v1.0.0", "refused"),
    }  # fmt: skip
    for number, each in recorded.items():
        assert each["attempt"] == number
        assert each["candidate_commit"] == releases.run("git", "rev-parse", f"run-{each['candidate']}").strip()
        assert each["holder_commit"] == releases.run("git", "rev-parse", f"run-{each['holder']}").strip()
        assert each["p"] == one_sided(each["fixed"], each["broken"])
        assert each["alpha"] == share_of(number)


def test_a_pair_that_was_compared_spends_nothing_again(releases: Clone) -> None:
    give_prod(releases, 1, "run-v1.0.0")
    promote(releases, "v1.0.1")
    refused = promote(releases, "v1.1.0", exit_code=1)
    recorded = attempts(releases)
    assert [each["decision"] for each in recorded.values()] == ["promoted", "refused"]

    again = promote(releases, "v1.1.0", exit_code=1)
    name = next(line for line in refused.splitlines() if "records this attempt" in line).split()[0]
    assert again == re.sub(
        f"^{name} records .*$",
        f"{name} decided on this pair on {recorded[2]['date'][:10]}; comparing it again spends nothing",
        refused,
        flags=re.MULTILINE,
    )
    roll_back(releases)
    assert promote(releases, "v1.0.1").splitlines()[-3:] == ["v1.0.1 holds prod", *shared(4)]
    assert attempts(releases) == recorded

    card = releases.run("python", "-m", "tools.registry.card", "v1.0.1")
    assert "compared for a promotion on these test images twice, this one twice.\n\nIt won twice. " in card


def give_prod(clone: Clone, number: int, commit: str) -> None:
    date = f"{int(time.time()) - 10 + number} +0000"
    clone.run("git", "tag", "--annotate", "--message", "m", f"lstm#prod#{number}", commit, GIT_COMMITTER_DATE=date)


def test_a_version_without_its_model_gets_no_stage(releases: Clone) -> None:
    give_prod(releases, 1, "run-v1.0.1")
    give_prod(releases, 2, "run-v1.1.1")
    forget(releases, "run-v1.0.1", "models/lstm.keras")
    commit = releases.run("git", "rev-parse", "run-v1.0.1^{commit}").strip()
    for printed in (roll_back(releases, exit_code=1), promote(releases, "v1.0.1", exit_code=1)):
        assert error_of(printed).startswith(
            "error: models/lstm.keras at lstm@v1.0.1: neither in the cache nor in the storage; "
            f"`git checkout {commit[:10]} && dvc push` in a clone that has it shares it; "
        )
    assert releases.run("git", "tag", "--list", "lstm#*").split() == ["lstm#prod#1", "lstm#prod#2"]


def test_a_missing_model_or_missing_images_are_named(releases: Clone) -> None:
    give_prod(releases, 1, "run-v1.0.0")
    forget(releases, "run-v1.0.0", "data/processed/test.npz")
    printed = promote(releases, "v1.1.0", exit_code=1)
    for version in ("v1.1.0", "v1.0.0"):
        assert (
            f"note: the test images are not predicted again with lstm@{version}: data/processed/test.npz at "
            f"lstm@{version}: neither in the cache nor in the storage" in printed
        )
    assert "v1.1.0 is worse than v1.0.0" in printed


def test_damaged_images_do_not_switch_the_check_off(releases: Clone) -> None:
    give_prod(releases, 1, "run-v1.0.0")
    for path in objects(releases, "run-v1.0.0", "data/processed/test.npz"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert error_of(promote(releases, "v1.1.0", exit_code=1)).startswith(
        "error: data/processed/test.npz at lstm@v1.1.0: expected the file with the MD5 "
    )


def objects(clone: Clone, revision: str, path: str) -> list[Path]:
    """Return the places of a file in the cache and in the storage."""
    lock = yaml.safe_load(clone.run("git", "show", f"{revision}:dvc.lock"))
    outs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    folders = clone.folder / ".dvc/cache", clone.folder.parent / "mnist-lstm-storage"
    return [folder / "files/md5" / outs[path][:2] / outs[path][2:] for folder in folders]


def forget(clone: Clone, revision: str, path: str) -> None:
    """Remove a file from the cache and from the storage."""
    for place in objects(clone, revision, path):
        place.unlink()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("v9.0.0", "--stage", "prod"), "v9.0.0: no registered version; found v1.0.0, v1.0.1, v1.1.0, v1.1.1"),
        (("--rollback", "--stage", "prod"), "lstm@prod: no version holds the stage prod here"),
        (("v1.0.0", "--stage", "no name!"), "no name! is not assigned: Invalid"),
        (("v1.0.0", "--stage", "v2"), "v2: expected a stage that does not begin like a version"),
        (("--rollback", "--stage", "v2"), "v2: expected a stage that does not begin like a version"),
    ],
)
def test_what_cannot_be_assigned_is_named(command: tuple[str, ...], message: str, releases: Clone) -> None:
    assert message in error_of(releases.run(*PROMOTE, *command, exit_code=1))


def test_a_version_that_lost_a_stage_no_longer_holds_it() -> None:
    def after(*events: tuple[str, bool]) -> list[str | None]:
        history = [
            Assignment(
                Tag("", Action.UNASSIGN if lost else Action.ASSIGN, None, "prod", at, True, commit, at, ""), None
            )
            for at, (commit, lost) in enumerate(events)
        ]
        return [each.tag.commit for each in holders(history)]

    assert after() == []
    assert after(("1", False), ("2", False)) == ["1", "2"]
    assert after(("1", False), ("2", False), ("1", False)) == ["2", "1"]
    assert after(("1", False), ("2", False), ("2", True)) == ["1"]


def test_the_table_has_a_row_a_digit() -> None:
    rows = table(compare_predictions(*np.array([[0, 0, 7], [0, 1, 1], [1, 0, 1]]))).splitlines()
    assert rows[0].split() == ["digit", "images", "right", "before", "right", "after", "fixed", "broken"]
    assert [row.split() for row in rows[1::7]] == [["0", "2", "1", "1", "1", "1"], ["7", "1", "0", "0", "0", "0"]]
    assert len({len(row) for row in rows}) == 1


def test_the_sentences_name_the_verdicts_at_this_attempt() -> None:
    def said(fixed: int, broken: int, number: int = 1) -> tuple[str, str]:
        actual = np.zeros(1_000, int)
        at = np.arange(1_000)
        paired = compare_predictions(actual, at < fixed, (at >= fixed) & (at < fixed + broken))
        judged = judge(
            paired, paired, number=number, test_set="f" * 32, stage="prod",
            candidate=Version("v2", "b" * 40), holder=Version("v1", "a" * 40),
        )  # fmt: skip
        assert judged.own
        return sentence(judged, paired).partition(" on 1,000")[0], own_sentence(judged, judged.own)

    own = "on 1,000 own test pictures"
    assert said(30, 12) == ("v2 is better than v1", f"v2 is better than v1 {own}: 30 fixed, 12 broken, p = 0.00396")
    assert said(30, 12, number=10) == (
        "v2 is not proven better than v1",
        f"v2 is not proven better than v1 {own}: 30 fixed, 12 broken, p = 0.00396",
    )
    assert said(12, 30) == ("v2 is worse than v1", f"v2 is worse than v1 {own}: 12 fixed, 30 broken, p = 0.999")


def test_attempts_are_not_counted_without_the_hash_of_the_test_images(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    clone.run("git", "init", "--quiet")
    clone.run("dvc", "init", "--quiet")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  prepare:\n    cmd: python -m stages.prepare\n")
    clone.commit("No hashes")
    with pytest.raises(InputError) as refused:
        md5_of_test_images(resolve("HEAD", tmp_path))
    assert str(refused.value) == (
        "dvc.lock at HEAD: names no MD5 of data/processed/test.npz; check it out, run `dvc repro` and commit the result"
    )
