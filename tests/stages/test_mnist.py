import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from stages.errors import InputError
from stages.mnist import read_idx, read_labels


def idx(*shape: int, items: bytes, magic: bytes | None = None) -> bytes:
    """Make a compressed IDX file."""
    header = (magic or bytes([0, 0, 8, len(shape)])) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(header + items, mtime=0)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "images-idx3-ubyte.gz"
    path.write_bytes(content)
    return path


def test_literal_bytes_are_read(tmp_path: Path) -> None:
    literal = b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x03\x00\x01\x02\xfd\xfe\xff"
    images = read_idx(written(tmp_path, gzip.compress(literal, mtime=0)), (2, 1, 3))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [[[0, 1, 2]], [[253, 254, 255]]])


def test_sizes_are_big_endian(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b"\x00\x00\x08\x01\x00\x00\x01\x02" + bytes(258), mtime=0))
    assert read_idx(path, (258,)).shape == (258,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(2, 2, items=b"1234", magic=b"\x00\x00\x0d\x02"), "expected IDX magic 00000802, found 00000d02"),
        (idx(2, 2, items=b"1234", magic=b"\x01\x00\x08\x02"), "expected IDX magic 00000802, found 01000802"),
        (idx(2, 2, 1, items=b"1234"), "expected IDX magic 00000802, found 00000803"),
        (idx(2, 3, items=b"123456"), r"expected dimensions \(2, 2\), found \(2, 3\)"),
        (idx(2, 2, items=b"123"), "expected 4 items, found 3"),
        (idx(2, 2, items=b"12345"), "expected 4 items, found more"),
        (gzip.compress(b"\x00\x00\x08\x02\x00", mtime=0), r"expected dimensions \(2, 2\), found \(0, 0\)"),
        (gzip.compress(b"", mtime=0), "expected IDX magic 00000802, found $"),
        (b"<html>not found</html>", "damaged gzip file"),
        (b"", "expected IDX magic 00000802, found $"),
        (idx(2, 2, items=b"1234")[:-9], "damaged gzip file"),
        (idx(2, 2, items=b"1234")[:-5] + b"\0" * 5, "damaged gzip file"),
    ],
)
def test_anything_else_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_idx(written(tmp_path, content), (2, 2))
    assert "images-idx3-ubyte.gz" in str(error.value)


def test_a_file_that_unpacks_to_more_is_not_read_to_its_end(tmp_path: Path) -> None:
    endless = idx(2, 2, items=b"1234" + bytes(1_000_000))
    without_its_end = written(tmp_path, endless[:-8])
    # A reader that continues to the end finds that the end is missing.
    with pytest.raises(InputError, match="found more"):
        read_idx(without_its_end, (2, 2))


def test_labels_are_digits(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_labels(written(tmp_path, idx(3, items=b"\x00\x09\x05")), (3,)), [0, 9, 5])
    with pytest.raises(InputError, match="expected labels 0-9, found 10 at item 1"):
        read_labels(written(tmp_path, idx(3, items=b"\x00\x0a\x05")), (3,))
