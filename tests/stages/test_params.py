from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml, modify_yaml, parse_yaml

from stages.errors import InputError
from stages.params import LAST_RUN, LIMIT, load_params, parse
from tools import ROOT

COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")

LAYERS = "lstm_units:             # units of each LSTM layer\n  - 128\n  - 128\n"


def load(text: str, folder: Path) -> Any:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path).model_dump()


def replaced(old: str, new: str) -> str:
    assert COMMITTED.count(old) == 1
    return COMMITTED.replace(old, new)


def test_the_defaults_are_the_documented_network_and_optimizer(tmp_path: Path) -> None:
    params = load(COMMITTED, tmp_path)
    assert params["model"] == {"lstm_units": [128, 128], "activation": "relu", "dropout": 0.2, "dense_units": 32}
    assert params["prepare"]["dataset"] == "mnist"
    assert params["prepare"]["validation_size"] == 5_000
    train = params["train"]
    assert (train["optimizer"], train["learning_rate"], train["epochs"]) == ("adam", 0.001, 10)


SPELLINGS = (
    "on off yes no y n On YES true True TRUE false null Null ~ none 'on' \"010\" "
    "010 08 0o10 0O10 0o9 0x10 0xG 0b101 0b2 1_000 1__0 _1 +7 -0 1:30 1:30:00 12e03 "
    "1e-3 1E-3 1e3 1e+3 1e .5 5. +.5 1_0.0 1.e3 .inf -.INF .NaN inf nan 1.0.0 0.1e- 2001-12-14"
)
TAGGED_AND_NESTED = ["!!str 010", '!!int "010"', "!!float 1", "!!bool on", "[1, 010]", "{a: on}"]


@pytest.mark.parametrize("directive", ["", "%YAML 1.1\n---\n", "%YAML 1.2\n---\n"])
@pytest.mark.parametrize("spelling", [*SPELLINGS.split(), *TAGGED_AND_NESTED])
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.MantissaNoDotYAML1_1Warning")
def test_every_spelling_has_the_value_that_dvc_sees(spelling: str, directive: str) -> None:
    text = f"{directive}value: {spelling}\n"
    try:
        expected = parse_yaml(text, "params.yaml")["value"]
    except Exception:  # noqa: BLE001 - DVC lets errors of many kinds through
        with pytest.raises(InputError, match=r"params\.yaml: not readable as YAML: "):
            parse(text.encode(), "params.yaml", limit=LIMIT)
    else:
        found = parse(text.encode(), "params.yaml", limit=LIMIT)["value"]
        assert (type(found), repr(found)) == (type(expected), repr(expected))


@pytest.mark.parametrize("number", ["5_000", "0x10", "+7", "5000", "010", "0o10", "0b101"])
def test_integers_are_read_as_dvc_reads_them(number: str, tmp_path: Path) -> None:
    ours = load(replaced("epochs: 10 ", f"epochs: {number} "), tmp_path)["train"]["epochs"]
    assert ours == load_yaml(str(tmp_path / "params.yaml"))["train"]["epochs"]


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "0.001", ".001", "+1.0e-03", "1", "1_0.0"])
def test_numbers_are_read_as_dvc_reads_them(number: str, tmp_path: Path) -> None:
    text = replaced("learning_rate: 0.001", f"learning_rate: {number}")
    ours = load(text, tmp_path)["train"]["learning_rate"]
    assert ours == load_yaml(str(tmp_path / "params.yaml"))["train"]["learning_rate"] == float(number)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 10 ", "epochs: 0 ", r"train\.epochs: .* greater than or equal to 1, found 0"),
        ("epochs: 10 ", "epochs: 1.5 ", r"train\.epochs: .* valid integer, found 1\.5"),
        ("epochs: 10 ", "epochs: true ", r"train\.epochs: .* valid integer, found True"),
        ("epochs: 10 ", "epochs: '10' ", r"train\.epochs: .* valid integer, found '10'"),
        ("epochs: 10 ", "epochs: 1:30 ", r"train\.epochs: .* valid integer, found '1:30'"),
        ("epochs: 10 ", "epochs: ", r"train\.epochs: .* valid integer, found None"),
        ("epochs: 10 ", "epoch: 10 ", r"train\.epochs is missing; train\.epoch is unknown, expected epochs, batch_"),
        ("learning_rate: 0.001", "learning_rate: fast", r"train\.learning_rate: .* valid number, found 'fast'"),
        ("learning_rate: 0.001", "learning_rate: .nan", r"train\.learning_rate: .* finite number, found nan"),
        ("learning_rate: 0.001", "learning_rate: -0.1", r"train\.learning_rate: .* greater than 0, found -0\.1"),
        ("precision: float32", "precision: no", r"train\.precision: .* 'float32' or 'bfloat16', found 'no'"),
        (
            "warmup: 0.05",
            "warmup: 0.6",
            r"train: warmup and decay must be at most 1 together, found 0\.6 and 0\.5; correct it",
        ),
        ("dataset: mnist", "dataset: cifar", r"prepare\.dataset: .* 'mnist' or 'digits', found 'cifar'"),
        ("validation_size: 5000", "validation_size: 60000", r"prepare\.validation_size: .* less than 60000"),
        (LAYERS, "lstm_units: []\n", r"model\.lstm_units: .* at least 1 item"),
        (LAYERS, "lstm_units: [128, x]\n", r"model\.lstm_units\.1: .* valid integer, found 'x'"),
        (LAYERS, "lstm_units: 128\n", r"model\.lstm_units: .* valid list, found 128"),
        ("dropout: 0.2", "dropout: 1", r"model\.dropout: .* less than or equal to 0\.95, found 1"),
        ("prepare:\n", "prepared:\n", r"prepare is missing; prepared is unknown"),
        ("prepare:\n", "train: null\nprepare:\n", r'not readable as YAML: line \d+: found duplicate key "train"'),
        ("epochs: 10 ", '"\\e[31m": 10 ', r"epochs is missing; train\.\\x1b\[31m is unknown"),
    ],
)
def test_a_bad_parameter_is_named_with_what_was_found_and_what_is_allowed(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as error:
        load(replaced(old, new), tmp_path)
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))
    assert str(error.value).endswith(LAST_RUN)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = replaced("epochs: 10 ", "epochs: 0 ").replace("shift: 0 ", "shift: 15 ")
    with pytest.raises(InputError, match=r"train\.epochs.*; augment\.shift"):
        load(text, tmp_path)


def test_a_section_without_values_is_refused(tmp_path: Path) -> None:
    sections = COMMITTED.split("\ntrain:\n")[0]
    with pytest.raises(InputError, match=r"train must be a mapping of names to values, found None; augment is missing"):
        load(f"{sections}\ntrain: null\n", tmp_path)


def test_only_the_first_of_many_faults_are_named(tmp_path: Path) -> None:
    more = "".join(f"a{number}: 1\n" for number in range(1_000))
    with pytest.raises(InputError, match=r"a9 is unknown, [^;]*; and 990 more faults; correct it, or get the last "):
        load(COMMITTED + more, tmp_path)


# Ten lines that stand for ten billion values.
LAUGHS = "a0: &a0 ha\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: &x [*x]", r"line 2: expected values, found the alias \*x: write its value out"),
        ("a: &x {b: *x}", r"found the alias \*x"),
        ("a: &x\n  <<: *x", r"found the alias \*x"),
        (LAUGHS, r"line 2: .* found the alias \*a0"),
        ("[" * 5_000, "nested too deeply"),
        ("- " * 5_000, "nested too deeply"),
        ('{"a": ' * 5_000, "nested too deeply"),
        ("a: !" + "x" * 10_000 + " 1", r"could not determine a constructor for the tag\.\.\.$"),
        ("a: !!bool maybe", "not readable as YAML: 'maybe'"),
        ('a: "\\UFFFFFFFF"', "too large"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: " + "1" * 5_000, "4300 digits"),
        ("a: " + "1" * LIMIT, r"params\.yaml: expected at most 64,000 bytes, found more"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse(text.encode(), "params.yaml", limit=LIMIT)
    assert len(str(error.value)) < 400
    assert str(error.value).splitlines() == [str(error.value)]


def test_an_endless_file_is_read_up_to_the_limit() -> None:
    with pytest.raises(InputError, match="/dev/zero: expected at most 64,000 bytes, found more"):
        load_params(Path("/dev/zero"))


def test_a_larger_limit_allows_larger_files() -> None:
    text = "a: " + "x" * LIMIT
    assert parse(text.encode(), "dvc.lock", limit=10 * LIMIT) == {"a": "x" * LIMIT}


@pytest.mark.parametrize("text", ["", "5", "- a", "a: [", "a: &x [*x]", "\t", "a: {{}}", "[" * 5_000])
def test_anything_but_a_mapping_of_sections_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml"):
        load(text, tmp_path)


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"not found; restore it with `git restore"):
        load_params(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        load_params()
    assert str(error.value) == (
        f"params.yaml: not found in {tmp_path}; run the command in the repository's folder: `cd {ROOT}`"
    )


def test_a_misspelt_parameter_comes_with_the_way_back_to_the_last_run(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(replaced("epochs: 10", "epochs: 10\n  epoch: 3"), tmp_path)
    assert str(error.value).endswith(
        "; correct it, or get the last committed run back: `git restore params.yaml dvc.lock reports && dvc checkout`"
    )


def test_no_parameter_can_make_an_object(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not determine a constructor"):
        load(replaced("dataset: mnist", "dataset: !!python/object/apply:os.getcwd []"), tmp_path)


def test_the_file_explains_every_parameter() -> None:
    for line in COMMITTED.splitlines():
        if line.startswith("  ") and not line.startswith("  - "):
            assert "  # " in line, line


def test_an_experiment_changes_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED, encoding="utf-8")
    with modify_yaml(str(path)) as values:  # what `dvc exp run -S` calls
        values["train"]["batch_size"] = 64
    assert path.read_text(encoding="utf-8") == replaced("batch_size: 32", "batch_size: 64")
