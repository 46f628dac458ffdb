from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.errors import InputError
from tools import ROOT
from tools.runs import lock


def parse(**stages: Any) -> lock.Lock:
    return lock.parse(yaml.safe_dump({"schema": "2.0", "stages": stages}), "dvc.lock at theirs")


def test_the_committed_lock_names_what_was_made_of_what() -> None:
    found = lock.load(ROOT / "dvc.lock")
    assert list(found.stages) == ["prepare", "train", "evaluate"]
    assert "models/lstm.keras" in found.hashes
    assert found.differing(found) == []
    other = found.model_copy(update={"stages": {name: found.stages[name] for name in ("prepare", "evaluate")}})
    assert found.differing(other) == [out.path for out in found.stages["train"].outs]
    assert other.differing(found) == []
    assert "stages/train.py" in found.code
    assert {"prepare", "model", "train"} <= set(found.params)


def test_the_values_of_parameters_are_those_that_dvc_sees() -> None:
    text = "stages: {a: {params: {params.yaml: {x: 1e-3, y: [1, {z: null}], w: on, v: .nan}}}}"
    found = lock.parse(text, "dvc.lock").params
    assert repr(found) == "{'x': 0.001, 'y': [1, {'z': None}], 'w': 'on', 'v': nan}"


# Ten lines that stand for ten billion values.
LAUGHS = "a0: &a0 ha\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(10))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "records no run: the whole file"),
        ("stages: null", "records no run: stages: Input"),
        ("stages: {train: null}", r"records no run: stages\.train: Input"),
        ("stages: {train: {outs: null}}", r"stages\.train\.outs: Input"),
        ("stages: {train: {outs: [null]}}", r"stages\.train\.outs\.0: Input"),
        ("stages: {train: {outs: [{md5: a}]}}", r"stages\.train\.outs\.0\.path: Field required"),
        ("stages: {train: {outs: [{path: 1}]}}", r"stages\.train\.outs\.0\.path: Input"),
        ("stages: {train: {outs: [{path: a, md5: 1}]}}", r"outs\.0\.md5: Input should be a valid string"),
        ("stages: {train: {outs: [{path: a, md5: ../../../../../etc/passwd}]}}", r"outs\.0\.md5: String should match"),
        ("stages: {train: {deps: [{path: a, md5: 1}]}}", r"deps\.0\.md5: Input should be a valid string"),
        ("stages: {train: {outs: [{path: a, size: big}]}}", r"outs\.0\.size: Input"),
        ("stages: {train: {params: {params.yaml: null}}}", r"params\.params\.yaml: Input"),
        (
            "stages: {train: {params: {params.yaml: {a: 2001-01-01}}}}",
            r"params\.params\.yaml\.a: input was not a valid JSON value",
        ),
        ("stages: {train: {params: {params.yaml: {a: 0x" + "f" * 5_000 + "}}}}", "Exceeds the limit"),
        ("stages: {train: {params: {params.yaml: {1: a}}}}", r"yaml\.1\.\[key\]: Input"),
        ('stages: {"\\e[2J": 1}', r"stages\.\\x1b\[2J: Input"),
        (LAUGHS, "found the alias"),
        ("stages: &x {a: *x}", "found the alias"),
        ("stages: " + "[" * 1_000, "nested too deeply"),
        ("stages: {a: {params: {params.yaml: " + "{a: " * 2_000 + "}" * 2_003, "nested too deeply"),
        ("stages: " + "x" * 50_000_000, "expected at most 128,000 bytes, found more"),
        ("stages: {}\nstages: {}", "duplicate key"),
    ],
    ids=lambda value: value[:60],
)
def test_a_hostile_lock_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        lock.parse(text, "dvc.lock at theirs")
    assert str(error.value).startswith("dvc.lock at theirs: ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(InputError, match=message):
        lock.load(tmp_path / "dvc.lock")


def test_a_missing_lock_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dvc\.lock: not found"):
        lock.load(tmp_path / "dvc.lock")
    (tmp_path / "dvc.lock").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"dvc\.lock: not readable as YAML"):
        lock.load(tmp_path / "dvc.lock")


def test_a_lock_without_a_path_it_does_not_know_is_read() -> None:
    assert parse(train={"cmd": "x", "later": [1]}).stages["train"].outs == []
