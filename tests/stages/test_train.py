from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import archive, dataset, model, prepare
from stages import history as of_epochs
from stages import train as stage
from stages.checkpoint import Checkpoint
from stages.dataset import Dataset
from stages.errors import InputError
from stages.history import Epoch
from stages.params import Params
from stages.runtime import tf
from stages.train import Trapezoid, averaged, batches, make_optimizer, trace, train
from tests.images import random_digits
from tests.parameters import DIVERGING, SMALL, make_params, write_params


def small(**changes: Any) -> Params:
    return make_params(**{"model__lstm_units": [8, 6], "model__dense_units": 5, "train__epochs": 2, **changes})


def trained(params: Params, images: Dataset) -> tuple[list[Epoch], Any]:
    network = model.build(params.model, seed=params.train.seed)
    optimizer = make_optimizer(network, params.train, images=len(images))
    return list(train(trace(network, optimizer, params, images=len(images)), params, images, images)), network


# Training


def test_one_step_changes_every_weight() -> None:
    params = make_params(train__epochs=1, train__batch_size=32, train__warmup=0, train__decay=0)
    before = model.build(params.model, seed=0).get_weights()
    _, network = trained(params, random_digits(32))
    for variable, old, new in zip(network.weights, before, network.get_weights(), strict=True):
        assert (old != new).any(), variable.path
        assert np.isfinite(new).all(), variable.path


def test_32_images_are_memorized(digits: Dataset) -> None:
    images = Dataset(digits.images[:32], digits.labels[:32])
    often = Dataset(np.tile(images.images, (50, 1, 1)), np.tile(images.labels, 50))
    params = make_params(
        model__lstm_units=[32, 32],
        model__activation="tanh",  # steadier than relu over so few steps
        model__dropout=0.0,
        train__epochs=5,
        train__learning_rate=0.01,
    )
    history, network = trained(params, often)
    assert history[-1].validation_accuracy == 1
    assert (network.predict(images.images, verbose=0).argmax(axis=1) == images.labels).all()


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [("adam", 0.01), ("adamw", 0.01), ("nadam", 0.01), ("rmsprop", 0.01), ("sgd", 0.5), ("muon", 0.01)],
)
def test_every_optimizer_learns(optimizer: str, rate: float) -> None:
    history, _ = trained(
        small(train__optimizer=optimizer, train__learning_rate=rate, train__epochs=8), random_digits(64)
    )
    assert history[-1].training_loss < history[0].training_loss


def test_the_same_parameters_give_the_same_weights_and_another_seed_others() -> None:
    augmented = {"augment__shift": 2, "augment__rotation": 10}
    runs = [trained(small(train__seed=seed, **augmented), random_digits(100)) for seed in (0, 0, 1)]
    (history, network), (same_history, same), (_, other) = runs
    assert history == same_history
    for weight, same_weight in zip(network.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same_weight)
    assert (network.get_weights()[0] != other.get_weights()[0]).any()


def test_dropout_changes_training() -> None:
    (without, _), (with_it, _) = (trained(small(model__dropout=rate), random_digits(100)) for rate in (0.0, 0.5))
    assert without[-1].training_loss != with_it[-1].training_loss


def test_validation_figures_are_those_of_the_network_after_the_epoch() -> None:
    images = random_digits(70)
    history, network = trained(small(train__batch_size=32), images)
    probabilities = network.predict(images.images, verbose=0)
    assert history[-1].epoch == 2
    accuracy = (probabilities.argmax(axis=1) == images.labels).mean()
    assert history[-1].validation_accuracy == pytest.approx(accuracy, abs=1e-6)  # six decimals
    assert history[-1].validation_loss == pytest.approx(
        -np.log(probabilities[np.arange(70), images.labels]).mean(), 1e-5
    )


def test_running_accuracy_and_loss_are_means_over_the_images() -> None:
    # With a rate near 0 and no dropout, training measures the same network as validation, partial batch included.
    params = small(train__learning_rate=1e-30, model__dropout=0.0, train__batch_size=32)
    history, _ = trained(params, random_digits(70))
    for epoch in history:
        assert epoch.training_accuracy == pytest.approx(epoch.validation_accuracy, abs=1e-6)
        assert epoch.training_loss == pytest.approx(epoch.validation_loss, 1e-5)


def test_a_training_that_diverges_stops_with_the_epoch_and_the_remedy(digits: Dataset) -> None:
    params = make_params(**(SMALL | DIVERGING))
    with pytest.raises(
        InputError, match=r"diverged in epoch 1: expected finite losses, found nan .*lower train\.learning_"
    ):
        trained(params, digits)


def test_the_history_of_each_epoch_is_written_as_soon_as_it_is_over(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(in_empty_folder, **SMALL)
    prepare.main()
    written = []

    def watched(*arguments: Any, **options: Any) -> Iterator[Epoch]:
        for epoch in train(*arguments, **options):
            yield epoch
            written.append(of_epochs.load()["epoch"].tolist())

    monkeypatch.setattr(stage, "train", watched)
    stage.main()
    assert written == [[1], [1, 2]]


# The moving average of the weights


def test_the_average_takes_a_share_of_the_weights_after_each_step() -> None:
    images, params = random_digits(100), small(train__batch_size=32, train__ema=0.75)
    network = model.build(params.model, seed=0)
    optimizer = make_optimizer(network, params.train, images=len(images))
    steps = trace(network, optimizer, params, images=len(images))
    expected: list[Any] = []
    for batch in batches(images, params.train, params.augment):
        steps.learn(*batch)
        weights = network.get_weights()
        share = np.float32(0.25 if expected else 1)
        expected = [(1 - share) * a + share * b for a, b in zip(expected or weights, weights, strict=True)]
    with averaged(network, optimizer):
        for found, average in zip(network.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(found, average)
    for found, last in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, last)


def test_the_saved_model_is_the_average_that_validation_measured(in_empty_folder: Path) -> None:
    write_params(in_empty_folder, **SMALL, train__ema=0.99)
    prepare.main()
    stage.main()
    validation = dataset.load(dataset.VALIDATION)
    probabilities = archive.load().predict(validation.images, verbose=0)
    loss = -np.log(probabilities[np.arange(len(validation)), validation.labels]).mean()
    assert of_epochs.load()["validation_loss"].tolist()[-1] == pytest.approx(loss, 1e-5)


# Continuing


@pytest.mark.parametrize(("optimizer", "ema"), [("adam", 0.9), ("muon", 0)])
def test_an_interrupted_training_ends_with_the_bits_of_one_that_was_not(
    optimizer: str, ema: float, in_empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = random_digits(70)  # the last batch of an epoch is not full
    params = small(
        train__epochs=4, train__batch_size=32, train__optimizer=optimizer, train__ema=ema,
        augment__shift=2, augment__elastic=1,
    )  # fmt: skip
    expected_history, expected = trained(params, images)
    history: list[Epoch] = []
    for interrupted_after in (1, 3, None):
        # Each pass imitates a new process: only the checkpoint is passed on.
        network = model.build(params.model, seed=params.train.seed)
        optimizer_ = make_optimizer(network, params.train, images=len(images))
        steps = trace(network, optimizer_, params, images=len(images))
        state = [*network.variables, *optimizer_.variables]
        with Checkpoint("inputs") as checkpoint:
            history = checkpoint.restore(state)
            for epoch in train(steps, params, images, images, done=len(history)):
                history.append(epoch)
                checkpoint.save(state, history)
                if epoch.epoch == interrupted_after:
                    break
    assert "continuing after epoch 3" in capsys.readouterr().out
    assert list(in_empty_folder.rglob("*.npz"))
    assert history == expected_history
    for weight, of_straight in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, of_straight)


# The learning rate


@pytest.mark.parametrize(
    ("warmup", "decay", "expected"),
    [
        (0.0, 0.0, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (0.5, 0.0, [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1]),
        (0.0, 1.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.2, 0.4, [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        (0.5, 0.5, [0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(warmup: float, decay: float, expected: list[float]) -> None:
    params = make_params(train__learning_rate=0.001, train__warmup=warmup, train__decay=decay)
    rate = Trapezoid(params.train, steps=10)
    assert [float(rate(tf.constant(step))) for step in range(10)] == pytest.approx(
        [0.001 * share for share in expected], rel=1e-5
    )


# The order


def epochs_of(params: Params, images: Dataset) -> list[list[tuple[bytes, int]]]:
    """List the images and labels that each epoch trains on."""
    stream = list(batches(images, params.train, params.augment).as_numpy_iterator())
    pairs = [
        (image.tobytes(), int(label)) for batch in stream for image, label, weight in zip(*batch, strict=True) if weight
    ]
    return [pairs[start : start + len(images)] for start in range(0, len(pairs), len(images))]


def test_every_epoch_has_every_image_once_with_its_label_in_a_new_order() -> None:
    images = random_digits(100)
    first, second, third = epochs_of(small(train__epochs=3, train__batch_size=32), images)
    everything = sorted(
        (image.tobytes(), int(label)) for image, label in zip(images.images, images.labels, strict=True)
    )
    assert sorted(first) == sorted(second) == sorted(third) == everything
    assert first != second != third != first
    assert [first, second, third] == epochs_of(small(train__epochs=3, train__batch_size=32), images)
    assert first != epochs_of(small(train__epochs=3, train__batch_size=32, train__seed=1), images)[0]


def test_the_last_batch_of_an_epoch_has_the_remaining_images() -> None:
    stream = list(batches(random_digits(70), small(train__batch_size=31).train, small().augment).as_numpy_iterator())
    assert [weights.sum() for _, _, weights in stream] == [31, 31, 8] * 2
    # All batches have one shape, which shards can divide.
    assert {(images.shape, labels.shape) for images, labels, _ in stream} == {((32, 28, 28), (32,))}


def test_augmentation_changes_images_differently_in_every_epoch_and_keeps_labels() -> None:
    images = random_digits(50)
    first, second = epochs_of(small(augment__shift=2), images)
    assert not {image for image, _ in first} & {image for image, _ in second}
    assert sorted(label for _, label in first) == sorted(images.labels.tolist())
