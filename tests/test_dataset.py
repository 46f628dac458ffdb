import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import dataset
from stages.dataset import Dataset
from stages.errors import InputError


def some(count: int = 5) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(rng.random((count, 28, 28), np.float32), rng.integers(0, 10, count).astype(np.uint8))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    dataset.save(some(), path)
    loaded = dataset.load(path)
    np.testing.assert_array_equal(loaded.images, some().images)
    np.testing.assert_array_equal(loaded.labels, some().labels)
    assert len(loaded) == 5


def test_the_same_data_is_the_same_bytes_whenever_it_is_saved(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    dataset.save(some(), first)
    dataset.save(some(), second)
    os.utime(first, (0, 0))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": some().images}, "damaged or no .npz of images and labels"),
        ({"images": some().images.astype(np.float64), "labels": some().labels}, "found float64"),
        ({"images": some().images[:, :27], "labels": some().labels}, r"found float32 of shape \(5, 27, 28\)"),
        ({"images": some().images[:0], "labels": some().labels[:0]}, r"found float32 of shape \(0, 28, 28\)"),
        ({"images": some().images, "labels": some().labels[:4]}, r"5 uint8 labels of 0-9, found uint8 of shape \(4,\)"),
        ({"images": some().images, "labels": some().labels + np.uint8(10)}, "5 uint8 labels of 0-9"),
        ({"images": some().images * 255, "labels": some().labels}, "pixels between 0 and 1"),
        ({"images": some().images * np.float32(np.nan), "labels": some().labels}, "pixels between 0 and 1"),
        ({"images": np.array([{}] * 5), "labels": some().labels}, "allow_pickle=False"),
    ],
)
def test_other_contents_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as error:
        dataset.load(path)
    assert str(error.value).startswith(str(path))
    assert "dvc checkout" in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, -1])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    dataset.save(some(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cut\.npz: damaged"):
        dataset.load(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "flipped.npz"
    dataset.save(some(), path)
    content = bytearray(path.read_bytes())
    content[2_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"flipped\.npz: damaged.*CRC-32"):
        dataset.load(path)


def test_a_missing_file_comes_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: not found; make it with `dvc repro prepare`"):
        dataset.load(tmp_path / "none.npz")
