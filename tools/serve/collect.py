"""Pictures that people drew and named, saved for a later training: folder/<digit>/<hash of the content>.png."""

import errno
import hashlib
import io
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from stages.errors import InputError
from stages.files import replacing
from tools.find_digit import Grey

PICTURES = 10_000
BYTES = 200 * 1024**2  # of all pictures; one has at most 400 x 400 shades of grey, so 160 kB


class FullError(Exception):
    """There is no room for another picture."""


class Collection:
    """A folder of pictures. Its limits hold for all that is in it, whoever wrote it."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises `InputError` if files cannot be written into it.
        """
        self.folder = folder
        self.lock = threading.Lock()
        try:
            with replacing(folder / "try.png") as temporary:
                temporary.write_bytes(b"")
            (folder / "try.png").unlink()
        except OSError as error:
            raise InputError(f"{folder}: no picture can be saved here: {error.strerror}; name another") from None

    def save(self, grey: Grey, digit: int) -> str:
        """Save a picture, whole or not at all, and return its name. The same picture is saved once.

        Raises `FullError` if a limit is reached or the disk is full.
        """
        file = io.BytesIO()
        Image.fromarray(np.round(grey * 255).astype(np.uint8)).save(file, "PNG")
        content = file.getvalue()
        name = f"{digit}/{hashlib.sha256(content).hexdigest()}.png"
        path = self.folder / name
        with self.lock:
            if path.exists():
                return name
            sizes = [each.stat().st_size for each in self.folder.glob("[0-9]/*.png")]
            if len(sizes) >= PICTURES or sum(sizes) + len(content) > BYTES:
                raise FullError(f"the collection is full: {len(sizes):,} pictures, {sum(sizes):,} bytes")
            try:
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                    raise FullError(f"the picture is not saved: {error.strerror}") from None
                raise
        return name
