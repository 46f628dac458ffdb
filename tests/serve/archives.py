"""Archives of small networks, whole and changed."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import h5py

from tools.serve.convert import CONFIG, WEIGHTS


def rewritten(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """Return an archive whose files were changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


def with_config(content: bytes, change: Callable[[Any], None]) -> bytes:
    """Return an archive whose configuration was changed."""

    def change_member(members: dict[str, bytes]) -> None:
        config = json.loads(members[CONFIG])
        change(config)
        members[CONFIG] = json.dumps(config).encode()

    return rewritten(content, change_member)


def with_weights(content: bytes, change: Callable[[h5py.File], None]) -> bytes:
    """Return an archive whose file of weights was changed."""

    def change_member(members: dict[str, bytes]) -> None:
        file = io.BytesIO(members[WEIGHTS])
        with h5py.File(file, "r+") as weights:
            change(weights)
        members[WEIGHTS] = file.getvalue()

    return rewritten(content, change_member)
