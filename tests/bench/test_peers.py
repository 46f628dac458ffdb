import numpy as np
import pytest

from stages.params import Model
from tests.images import random_digits
from tests.parameters import make_params
from tools.bench import plain_keras
from tools.bench.peers import KERAS, LIMIT, PEERS, PYTORCH, SIDE, THIS, Case, operations


def test_operations_are_those_of_the_matrix_products() -> None:
    forward = 28 * (28 + 128) * 512 + 28 * (128 + 128) * 512 + 128 * 32 + 32 * 10
    assert operations(make_params().model) == 2 * (3 * forward - 28 * 28 * 512) == 34_662_272
    one = Model(lstm_units=[1], activation="relu", dropout=0, dense_units=1)
    assert operations(one) == 2 * (3 * (28 * 29 * 4 + 1 + 10) - 28 * 28 * 4)


@pytest.mark.parametrize("case", [Case(THIS, 32, (8,), "bfloat16"), Case(KERAS, 32), Case(PYTORCH, 32), Case(LIMIT)])
def test_every_peer_trains(case: Case) -> None:
    if case.peer == PYTORCH:
        pytest.importorskip("torch", reason="PyTorch is optional, and only for the benchmark")
    digits = random_digits(64)
    PEERS[case.peer](case)(digits.images, digits.labels)


def test_the_limit_has_the_operations_of_the_network_within_a_percent() -> None:
    products = round(Case(LIMIT).images * operations(make_params().model) / (2 * SIDE**3))
    assert products * 2 * SIDE**3 == pytest.approx(Case(LIMIT).images * operations(make_params().model), rel=0.01)


def test_plain_keras_is_the_documented_network() -> None:
    network = plain_keras.network()
    assert network.count_params() == 216_426
    assert np.shape(network.predict(random_digits(2).images, verbose=0)) == (2, 10)
