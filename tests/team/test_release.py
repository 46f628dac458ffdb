"""One person registers a version, another person promotes the version, and anyone uses it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import dataset
from tests.clones import Clone, error_of
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
