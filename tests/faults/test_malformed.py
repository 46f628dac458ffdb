"""Malformed params.yaml and IDX files from Hypothesis: each is read or refused with an `InputError`."""

import gzip
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import load_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.errors import InputError
from stages.mnist import read_idx
from stages.params import Params, load_params
from tests.faults.pipeline import SAMPLE
from tests.parameters import changed_params
from tools import ROOT

CASES = 50 if SAMPLE else 750

COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")
NAMES = [(section, name) for section, values in changed_params().items() for name in values]

# The cases are the same in every run. A case that takes 5 seconds counts as a hang.
malformed = settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    deadline=5_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def read_or_refused(text: bytes, folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_bytes(text)
    with suppress(InputError):
        assert load_params(path) == Params.model_validate(load_yaml(str(path)))


@pytest.mark.fault("malformed params.yaml refused or read", CASES)
@malformed
@given(
    st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=3),
    st.dictionaries(st.text(), values, max_size=1),
)
def test_any_value_of_any_parameter(tmp_path: Path, changes: dict[tuple[str, str], Any], more: dict[str, Any]) -> None:
    params = more | changed_params()
    for (section, name), value in changes.items():
        params[section][name] = value
    read_or_refused(yaml.safe_dump(params).encode("utf-8", "surrogatepass"), tmp_path)


@pytest.mark.fault("malformed params.yaml refused or read", CASES)
@malformed
@given(
    st.integers(0, len(COMMITTED)), st.integers(0, 40), st.binary(max_size=10) | st.text(max_size=10).map(str.encode)
)
def test_any_change_of_its_text(tmp_path: Path, start: int, removed: int, inserted: bytes) -> None:
    text = COMMITTED.encode()
    read_or_refused(text[:start] + inserted + text[start + removed :], tmp_path)


HEADER = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x02" * 2
IDX = HEADER + b"12345678"
SHAPE = (2, 2, 2)


@pytest.mark.fault("malformed IDX files refused or read", 2 * CASES)
@malformed
@given(st.integers(0, 60), st.integers(0, 20), st.binary(max_size=20), st.sampled_from([b"", IDX, HEADER]))
def test_any_change_of_an_idx_file(tmp_path: Path, start: int, removed: int, inserted: bytes, base: bytes) -> None:
    def changed(content: bytes) -> bytes:
        return content[:start] + inserted + content[start + removed :]

    path = tmp_path / "images.gz"
    for content in (gzip.compress(changed(base), mtime=0), changed(gzip.compress(base, mtime=0))):
        path.write_bytes(content)
        with suppress(InputError):
            assert read_idx(path, SHAPE).shape == SHAPE
