"""One person registers a version, another person promotes the version, and anyone uses it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import dataset
from tests.clones import Clone, commit_run, error_of
from tests.team.people import Team
from tests.team.storages import Bucket


def test_a_version_is_registered_by_one_promoted_by_another_and_used_by_anyone(team: Team) -> None:
    expected = team.ann.content()
    team.ann.run("python", "-m", "tools.registry.register", "--bump", "major")
    team.ann.run("git", "push", "--quiet", "origin", "lstm@v1.0.0")

    promote = ("python", "-m", "tools.registry.promote", "v1.0.0", "--stage", "prod")
    assert "origin has tags that this clone lacks: lstm@v1.0.0; " in error_of(team.ben.run(*promote, exit_code=1))
    team.ben.run("git", "fetch", "--quiet", "--tags")
    assert "# lstm v1.0.0" in team.ben.run("python", "-m", "tools.registry.card", "v1.0.0")
    promoted = team.ben.run(*promote)
    assert promoted.startswith("v1.0.0 holds prod\n")

    # Ann did the same in the meantime, and is the second one to push.
    team.ann.run(*promote)
    (push, again) = re.findall(r": (git .*?)(?:, then .*)?$", promoted, re.MULTILINE)
    team.ben.run("sh", "-c", f"{push} --quiet")
    assert "lstm#prod#1 -> lstm#prod#1 (already exists)" in team.ann.run("sh", "-c", push, exit_code=1)
    assert f"`{again}`" in error_of(team.ann.run(*promote, exit_code=1))
    team.ann.run("sh", "-c", again)
    assert team.ann.run(*promote) == "v1.0.0 holds prod already\n"

    third = team.join("third")
    third.run("git", "checkout", "--quiet", "lstm@v1.0.0")
    third.run("dvc", "pull")
    assert third.content() == expected
    (holder,) = third.json("gto", "show", "lstm#prod", "--json")
    assert holder["version"] == "v1.0.0"


@pytest.mark.parametrize("storage", ["s3"], indirect=True)
def test_every_attempt_at_a_promotion_is_shared_and_counted(team: Team) -> None:
    ann, ben = team.ann, team.ben
    for seed, change in enumerate(("nothing", "one digit more often", "refit")):
        if seed:
            commit_run(ann, seed, change)
        ann.run("dvc", "push")
        ann.run("git", "push", "--quiet")
        ann.run("python", "-m", "tools.registry.register")
    promote = ("python", "-m", "tools.registry.promote", "--stage", "prod")
    assert ann.run(*promote, "v0.0.1").startswith("v0.0.1 holds prod\n")
    ann.run("git", "push", "--quiet", "origin", "lstm@v0.0.1", "lstm@v0.0.2", "lstm@v0.0.3", "lstm#prod#1")
    ben.run("git", "pull", "--quiet", "--tags", "origin", "main")

    # Ben's candidate is refused, and Ann knows of it.
    refused = ben.run(*promote, "v0.0.2", exit_code=1)
    assert "v0.0.2 is not proven better than v0.0.1 on 359 test images: " in refused
    first = re.findall("lstm-attempt/[0-9a-f]{12}/1", refused)[0]
    assert refused.endswith(f"\n{first} records this attempt at origin\nprod stays with v0.0.1\n")
    told = error_of(ann.run(*promote, "v0.0.3", exit_code=1))
    assert (
        told == f"error: origin has tags that this clone lacks: {first}; run `git fetch --tags origin`, then this again"
    )
    ann.run("git", "fetch", "--quiet", "--tags", "origin")
    assert ann.run("git", "cat-file", "tag", first) == ben.run("git", "cat-file", "tag", first)

    # Without a network Ben promotes another one. Ann does the same, and is first at the remote.
    second = f"{first[:-1]}2"
    offline = ben.run(*promote, "v0.0.3", "--offline")
    assert "\nattempt 2 on these test images: " in offline
    assert f"\n{second} records this attempt here alone; share it: git push origin '{second}'\n" in offline
    promoted = ann.run(*promote, "v0.0.3")
    assert f"\n{second} records this attempt at origin\nv0.0.3 holds prod\n" in promoted
    ann.run("git", "push", "--quiet", "origin", "lstm#prod#2")
    assert "already exists" in ben.run("git", "push", "origin", second, exit_code=1)
    told = error_of(ben.run(*promote, "v0.0.3", exit_code=1))
    assert told.startswith(f"error: lstm#prod#2, {second}: not the tag that origin has, so somebody else was first; ")
    ben.run("sh", "-c", re.findall("`(.*)`", told)[0])
    assert ben.run(*promote, "v0.0.3") == "v0.0.3 holds prod already\n"

    # Both clones count the same, and both see what is decided.
    third = ben.run(*promote, "v0.0.2", exit_code=1)
    assert "\nattempt 3 on these test images: " in third
    ann.run("git", "fetch", "--quiet", "--tags", "origin")
    for clone in (ann, ben):
        assert clone.run("git", "tag", "--list", "lstm-attempt/*").split() == [first, second, f"{first[:-1]}3"]
        (holder,) = clone.json("gto", "show", "lstm#prod", "--json")
        assert holder["version"] == "v0.0.3"
        card = clone.run("python", "-m", "tools.registry.card", "v0.0.3")
        assert "on these test images 3 times, this one twice.\n\nIt won twice. So it was selected by its test " in card


@pytest.mark.parametrize("storage", ["s3"], indirect=True)  # a URL's clone has no storage folder beside it
def test_the_version_in_production_reads_a_picture_outside_of_any_clone(team: Team, tmp_path: Path) -> None:
    assert isinstance(team.storage, Bucket)
    team.ann.run("python", "-m", "tools.registry.register")
    team.ann.run("python", "-m", "tools.registry.promote", "v0.0.1", "--stage", "prod")
    team.ann.run("git", "push", "--quiet", "--tags", "origin")  # `first` is of a commit before this storage
    image = dataset.load(team.ann.folder / dataset.TEST).images[0]
    Image.fromarray(255 - (image * 255).astype(np.uint8)).resize((280, 280)).save(tmp_path / "digit.png")

    outside = Clone(tmp_path)
    identity, secret = team.storage.keys
    outside.environment |= {
        "PYTHONPATH": str(team.ann.folder),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AWS_ACCESS_KEY_ID": identity,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    from_afar = ("--model", "lstm@prod", "--repo", f"file://{team.git}")
    command = ("python", "-m", "tools.predict", "digit.png", "--json")
    found = json.loads(outside.run(*command, *from_afar))
    (of_the_file,) = json.loads(team.ann.run(*command[:3], str(tmp_path / "digit.png"), "--json"))["images"]
    assert found["images"][0]["confidence"] == of_the_file["confidence"]
