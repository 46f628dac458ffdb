import pytest

from stages.params import Model
from tests.conftest import make_params, random_digits
from tools.benchmark import LIMIT, PEERS, operations, table


def test_operations_are_those_of_the_matrix_products() -> None:
    forward = 28 * (28 + 128) * 512 + 28 * (128 + 128) * 512 + 128 * 32 + 32 * 10
    assert operations(make_params().model) == 2 * (3 * forward - 28 * 28 * 512) == 34_662_272
    one = Model(lstm_units=[1], activation="relu", dropout=0, dense_units=1)
    assert operations(one) == 2 * (3 * (28 * 29 * 4 + 1 + 10) - 28 * 28 * 4)


def test_the_table_has_every_peer_with_its_ratio_to_plain_keras_at_batch_32() -> None:
    this, keras, torch = PEERS
    speeds = {LIMIT: {128: 5_000.0}, this: {32: 3_000.0, 64: 4_000.0, 128: 4_500.0}, keras: {32: 1_000.0}, torch: {}}
    lines = table(speeds).splitlines()
    assert lines[2] == f"| {this} | 3,000 (3.0x) | 4,000 (4.0x) | 4,500 (4.5x) |"
    assert lines[3] == f"| {keras} | 1,000 (1.0x) | not measured | not measured |"
    assert lines[4] == f"| {torch} | not measured | not measured | not measured |"
    assert "5,000 (5.0x)" in lines[-1]


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_trains(name: str) -> None:
    if "PyTorch" in name:
        pytest.importorskip("torch", reason="PyTorch is an optional requirement of the benchmark alone")
    digits = random_digits(64)
    PEERS[name](digits.images, digits.labels, 32)()
