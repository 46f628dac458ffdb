import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import dataset
from stages.errors import InputError
from tests.images import named_digits, random_digits


def test_a_saved_dataset_is_loaded_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    dataset.save(random_digits(5), path)
    loaded = dataset.load(path)
    np.testing.assert_array_equal(loaded.images, random_digits(5).images)
    np.testing.assert_array_equal(loaded.labels, random_digits(5).labels)
    assert len(loaded) == 5


def test_the_same_data_gives_the_same_bytes_in_every_save(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    dataset.save(random_digits(5), first)
    dataset.save(random_digits(5), second)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("count", [0, 5])
def test_pictures_with_names_are_loaded_unchanged_also_none(count: int, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    dataset.save(named_digits(count), path)
    loaded = dataset.load_named(path)
    for name, expected in vars(named_digits(count)).items():
        np.testing.assert_array_equal(getattr(loaded, name), expected)
        assert getattr(loaded, name).dtype == expected.dtype


@pytest.mark.parametrize("names", [["a"] * 5, ["a", "b"], list(range(5))])
def test_names_that_are_not_one_for_each_picture_are_refused(names: list[object], tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **(vars(random_digits(5)) | {"names": np.array(names, "U32" if names[0] == "a" else None)}))
    with pytest.raises(InputError, match=r"own\.npz: expected 5 different names, found .*dvc checkout"):
        dataset.load_named(path)
    dataset.save(random_digits(5), path)
    with pytest.raises(InputError, match=r"own\.npz: damaged, or not an \.npz of images and labels and names"):
        dataset.load_named(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": random_digits(5).images}, r"damaged, or not an \.npz of images and labels"),
        ({"images": random_digits(5).images.astype(np.float64), "labels": random_digits(5).labels}, "found float64"),
        (
            {"images": random_digits(5).images[:, :27], "labels": random_digits(5).labels},
            r"found float32 of shape \(5, 27, 28\)",
        ),
        (
            {"images": random_digits(5).images[:0], "labels": random_digits(5).labels[:0]},
            r"found float32 of shape \(0, 28, 28\)",
        ),
        (
            {"images": random_digits(5).images, "labels": random_digits(5).labels[:4]},
            r"5 uint8 labels of 0-9, found uint8 of shape \(4,\)",
        ),
        (
            {"images": random_digits(5).images, "labels": random_digits(5).labels + np.uint8(10)},
            "5 uint8 labels of 0-9",
        ),
        ({"images": random_digits(5).images * 255, "labels": random_digits(5).labels}, "pixels between 0 and 1"),
        (
            {"images": random_digits(5).images * np.float32(np.nan), "labels": random_digits(5).labels},
            "pixels between 0 and 1",
        ),
        ({"images": np.array([{}] * 5), "labels": random_digits(5).labels}, "allow_pickle=False"),
    ],
)
def test_other_contents_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as error:
        dataset.load(path)
    assert str(error.value).startswith(str(path))
    assert "dvc checkout" in str(error.value)


def npy(shape: tuple[int, ...], content: bytes) -> bytes:
    """Give the bytes of an array's file whose header says float32 of this shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "fortran_order": False, "descr": "<f4"})
    return header.getvalue() + content


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "shape",
    [
        (10**12, 28, 28), (2**62, 2**62), (-1, 28, 28), (1, 28, 29), (1, 28, 27), (0, 28, 28), (1,) * 60,
    ],
)  # fmt: skip
def test_a_header_that_claims_another_size_takes_no_memory(shape: tuple[int, ...], method: int, tmp_path: Path) -> None:
    path = tmp_path / "claims.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", npy(shape, bytes(4 * 28 * 28)))
    with pytest.raises(
        InputError, match=r"claims\.npz: damaged, .*the header claims .* bytes, 3,136 are there"
    ) as error:
        dataset.load(path)
    assert "dvc checkout" in str(error.value)


@pytest.mark.parametrize(("method", "size"), [(zipfile.ZIP_STORED, 2**50), (zipfile.ZIP_DEFLATED, 2**50)])
def test_an_archive_that_claims_more_than_it_can_hold_takes_no_memory(method: int, size: int, tmp_path: Path) -> None:
    path = tmp_path / "claims.npz"
    content = npy((size // 4,), b"")
    member = zipfile.ZipInfo("images.npy")
    member.compress_type = method
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(member, "w", force_zip64=True) as file:
            file.write(content)
        # What is written to the directory at the end.
        member.file_size = len(content) + size
        if method == zipfile.ZIP_STORED:
            member.compress_size = member.file_size
    with pytest.raises(InputError, match=r"images claims 1,125,\S+ bytes in a file of \d+\)"):
        dataset.load(path)


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "packed.npz"
    blank = np.zeros((1_000, 28, 28), np.float32)
    np.savez_compressed(path, images=blank, labels=np.zeros(1_000, np.uint8))
    assert len(dataset.load(path)) == 1_000


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, -1])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    dataset.save(random_digits(5), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cut\.npz: damaged"):
        dataset.load(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    dataset.save(random_digits(5), whole)
    content = whole.read_bytes()
    original = dataset.load(whole)
    path = tmp_path / "flipped.npz"
    # All of the headers and the directory, and some of the pixels.
    for position in (*range(250), 2_000, *range(len(content) - 600, len(content))):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with suppress(InputError):
            loaded = dataset.load(path)
            # Only a bit that is not read, for example in a date, may go unnoticed.
            np.testing.assert_array_equal(loaded.images, original.images)
            np.testing.assert_array_equal(loaded.labels, original.labels)


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: not found; make it with `dvc repro prepare`"):
        dataset.load(tmp_path / "none.npz")
