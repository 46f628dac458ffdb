"""Damage to every output and every source file: `dvc repro` restores outputs and never uses damaged source files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages import download, mnist
from stages.errors import InputError
from tests.clones import OUTPUTS, Clone
from tests.faults.pipeline import SAMPLE

OTHER = b"what another file holds"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    path.write_bytes(OTHER)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_unreadable(path: Path) -> None:
    """Put a folder in the place of the file. Unlike with permissions, even the superuser cannot read it."""
    path.unlink()
    path.mkdir()


DAMAGES = [truncate, flip_a_bit, swap, empty, make_unreadable]


@pytest.mark.fault("damaged outputs restored", len(DAMAGES))
@pytest.mark.parametrize("output", OUTPUTS[-2:] if SAMPLE else OUTPUTS)
def test_repro_restores_a_damaged_output(output: str, clone: Clone) -> None:
    expected = clone.content()
    for damage in DAMAGES:
        path = clone.folder / output
        damage(min(path.iterdir()) if path.is_dir() else path)
        assert clone.content() != expected
        clone.run("dvc", "repro")
        assert clone.content() == expected, damage.__name__


@pytest.mark.fault("damaged source files refused", len(DAMAGES))
@pytest.mark.parametrize("name", [file.name for file in mnist.FILES])
def test_a_damaged_source_file_is_refused_and_a_whole_one_is_used(name: str, tmp_path: Path) -> None:
    whole = np.random.default_rng(0).bytes(10_000)
    file = mnist.IdxFile(name, len(whole), hashlib.sha256(whole).hexdigest(), (1,))
    good = tmp_path / "good"
    good.mkdir()
    (good / name).write_bytes(whole)
    for damage in DAMAGES:
        bad, cache = tmp_path / damage.__name__, tmp_path / f"cache {damage.__name__}"
        bad.mkdir()
        (bad / name).write_bytes(whole)
        damage(bad / name)
        with pytest.raises(InputError, match=f"{name}: no source has it"):
            download.fetch([file], [str(bad)], cache=cache, retries=0)
        assert list(cache.iterdir()) == []
        (path,) = download.fetch([file], [str(bad), str(good)], cache=cache, retries=0)
        assert path.read_bytes() == whole


Damage = Callable[[Path], None]


@pytest.mark.fault("damaged downloads in the cache fetched again")
@pytest.mark.parametrize("damage", DAMAGES[:4])
def test_a_file_damaged_in_the_download_cache_is_fetched_again(damage: Damage, tmp_path: Path) -> None:
    whole = np.random.default_rng(0).bytes(10_000)
    file = mnist.IdxFile("file.gz", len(whole), hashlib.sha256(whole).hexdigest(), (1,))
    good = tmp_path / "good"
    good.mkdir()
    (good / file.name).write_bytes(whole)
    (path,) = download.fetch([file], [str(good)], cache=tmp_path / "cache")
    damage(path)
    assert download.fetch([file], [str(good)], cache=tmp_path / "cache") == [path]
    assert path.read_bytes() == whole
