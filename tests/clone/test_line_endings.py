"""A clone has the same bytes whatever git is told of line endings, or every checksum of dvc.lock would differ."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clones import Clone
from tools import ROOT

SETTINGS = (["core.autocrlf=true"], ["core.autocrlf=input"], ["core.eol=crlf", "core.autocrlf=false"])


@pytest.fixture
def origin(tmp_path: Path) -> Clone:
    """The files of this repository, committed."""
    clone = Clone(tmp_path / "origin")
    for name in Clone(ROOT).run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]:
        if (ROOT / name).exists():
            (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone.folder / name)
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    clone.commit("All")
    return clone


def files(clone: Clone) -> dict[str, bytes]:
    return {name: (clone.folder / name).read_bytes() for name in clone.run("git", "ls-files", "-z").split("\0")[:-1]}


@pytest.mark.parametrize("settings", SETTINGS, ids=" ".join)
def test_a_clone_has_the_same_bytes(settings: list[str], origin: Clone, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    options = [option for setting in settings for option in ("--config", setting)]
    origin.run("git", "clone", "--quiet", *options, ".", str(clone.folder))
    assert files(clone) == files(origin)
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("settings", SETTINGS, ids=" ".join)
def test_a_push_from_such_a_clone_runs_the_check(settings: list[str], origin: Clone, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    options = [option for setting in settings for option in ("-c", setting)]
    origin.run("git", *options, "clone", "--quiet", ".", str(clone.folder))
    for setting in settings:
        clone.run("git", "config", *setting.split("="))
    clone.run("python", "-m", "tools.clone.setup")
    check = clone.folder / "tools/storage/check.py"
    check.write_bytes(b"print('checked')\r\n")
    clone.commit("Written on Windows")
    assert clone.run("git", "show", "HEAD:tools/storage/check.py") == "print('checked')\n"
    done = subprocess.run(
        ["git", "push", "--quiet", "origin", "main:other"],
        cwd=clone.folder, env=clone.environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout + done.stderr == "checked\n"


def test_what_is_not_text_is_marked(origin: Clone) -> None:
    listed = origin.run("git", "ls-files", "--eol", "-z").split("\0")[:-1]
    binary = {name for name, content in files(origin).items() if b"\0" in content}
    assert binary
    for line in listed:
        how, name = line.split("\t")
        assert ("-text" in how.split("attr/")[1]) == (name in binary), line
        assert "i/crlf" not in how
        assert "i/mixed" not in how
