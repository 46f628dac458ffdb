"""data/processed/{train,validation}.npz -> models/{lstm.keras,environment.json} and reports/history.csv."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages import archive, arithmetic, checkpoint, dataset, environment, history, model
from stages.augment import augmented
from stages.dataset import Dataset
from stages.errors import InputError, interrupted_at_once, one_line_errors
from stages.fast import IMAGES, make_gradients
from stages.history import Epoch
from stages.metrics import accuracy_and_loss
from stages.params import Augment, Params, Train, load_params
from stages.progress import Progress
from stages.runtime import keras, tf


def main() -> None:
    params = load_params()
    training, validation = dataset.load(dataset.TRAIN), dataset.load(dataset.VALIDATION)
    network = model.build(params.model, seed=params.train.seed)
    optimizer = make_optimizer(network, params.train, images=len(training))
    steps = trace(network, optimizer, params, images=len(training))
    state = [*network.variables, *optimizer.variables]
    fault = arithmetic.fault(steps.graphs)
    if fault:
        print(f"the bits of this training are those of this kind of processor: {fault}")
    here = environment.describe(fault)
    with checkpoint.Checkpoint(checkpoint.key(params, training, validation, here)) as kept:
        epochs = kept.restore(state)
        for epoch in train(steps, params, training, validation, done=len(epochs)):
            epochs.append(epoch)
            history.save(epochs)  # after each epoch, so that users can follow the training
            kept.save(state, epochs)
        history.save(epochs)
        optimizer.finalize_variable_values(network.trainable_variables)
        archive.save(network)
        environment.save(here)
        kept.remove()


class Steps(NamedTuple):
    """What training computes, traced: a step of learning, the predictions of the model so far, and all graphs."""

    learn: tf.types.experimental.ConcreteFunction
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    graphs: Sequence[tf.Graph]


def trace(network: keras.Model, optimizer: keras.optimizers.Optimizer, params: Params, *, images: int) -> Steps:
    """Trace the steps of a training of the network on this many images."""
    count = batch_shape(params.train, images)
    shape = tf.TensorSpec((count, dataset.SIDE, dataset.SIDE))
    learn = make_learner(network, optimizer, params.train).get_concrete_function(
        shape, tf.TensorSpec(count, tf.uint8), tf.TensorSpec(count)
    )
    predictor = model.Predictor(network)

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with averaged(network, optimizer):
            return predictor(images)

    change = tf.function(lambda batch: augmented(batch, params.augment, seed=tf.zeros(2, tf.int64)), autograph=False)
    return Steps(learn, predict, [learn.graph, predictor.traced.graph, change.get_concrete_function(shape).graph])


def train(
    steps: Steps,
    params: Params,
    training: Dataset,
    validation: Dataset,
    *,
    done: int = 0,
) -> Iterator[Epoch]:
    """Train the network of the steps in place, after `done` epochs, and yield the figures of each epoch.

    Raises `InputError` after an epoch whose losses are not finite.
    """
    epochs, count = params.train.epochs, batches_in_epoch(params.train, len(training))
    stream = iter(batches(training, params.train, params.augment, done=done))
    with Progress(epochs=epochs, steps=count, done=done) as progress:
        for number in range(done + 1, epochs + 1):
            loss = correct = 0.0
            for _ in range(count):
                batch_loss, batch_correct, rate = steps.learn(*next(stream))
                loss += float(batch_loss)
                correct += float(batch_correct)
                progress.step()
            accuracy, validation_loss = accuracy_and_loss(validation.labels, steps.predict(validation.images))
            epoch = Epoch(
                epoch=number,
                training_accuracy=correct / len(training),
                training_loss=loss / len(training),
                validation_accuracy=accuracy,
                validation_loss=validation_loss,
                learning_rate=float(rate),
            )
            if not math.isfinite(epoch.training_loss + epoch.validation_loss):
                raise InputError(
                    f"training diverged in epoch {number}: expected finite losses, found {epoch.training_loss} in "
                    f"training and {epoch.validation_loss} in validation; lower train.learning_rate or raise "
                    "train.warmup in params.yaml"
                )
            yield epoch
            progress.epoch(epoch)  # printed after the caller has saved the epoch


def batches_in_epoch(params: Train, images: int) -> int:
    return math.ceil(images / params.batch_size)


class Trapezoid(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its peak, stays constant, and falls linearly towards 0."""

    def __init__(self, params: Train, *, steps: int) -> None:
        self.peak = params.learning_rate
        self.steps = steps
        self.warmup = max(params.warmup * steps, 1)
        self.decay = max(params.decay * steps, 1)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        return self.peak * tf.minimum(1.0, tf.minimum((step + 1) / self.warmup, (self.steps - step) / self.decay))


def make_optimizer(network: keras.Model, params: Train, *, images: int) -> keras.optimizers.Optimizer:
    """Make the optimizer of a network's variables, with the learning rates for epochs of this many images."""
    config = {
        "learning_rate": Trapezoid(params, steps=params.epochs * batches_in_epoch(params, images)),
        "use_ema": params.ema > 0,
        "ema_momentum": params.ema,
    }
    optimizer = keras.optimizers.get({"class_name": params.optimizer, "config": config})
    optimizer.build(network.trainable_variables)
    return optimizer


@contextmanager
def averaged(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Give the network the moving average of its weights, if the optimizer keeps one, and then its weights again."""
    weights = [variable.numpy() for variable in network.trainable_variables]
    optimizer.finalize_variable_values(network.trainable_variables)
    yield
    for variable, value in zip(network.trainable_variables, weights, strict=True):
        variable.assign(value)


def make_learner(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, params: Train
) -> tf.types.experimental.PolymorphicFunction:
    """Make the function that trains on one batch of images (n, 28, 28), labels (n,) and weights (n,).

    The function returns the sum of the losses, the number of images classified correctly, and the learning rate.
    """
    gradients = make_gradients(network, precision=params.precision)

    @tf.function(autograph=False)
    def learn(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rate = tf.identity(optimizer.learning_rate)
        dropout_seed = tf.stack([tf.cast(params.seed, tf.int64), tf.cast(optimizer.iterations, tf.int64)])
        loss, correct, by_variable = gradients(images, labels, weights, dropout_seed)
        optimizer.apply(by_variable, network.trainable_variables)
        return loss, correct, rate

    return learn


def batch_shape(params: Train, images: int) -> int:
    """Return the number of images in a batch, those included that only fill it up."""
    return arithmetic.filled_up(min(params.batch_size, images), IMAGES)


def batches(training: Dataset, params: Train, augment: Augment, *, done: int = 0) -> tf.data.Dataset:
    """Stream the batches of all epochs after `done`, as images, labels and weights of one shape.

    The last batch of an epoch is filled up with images of weight 0. Order and augmentation depend only on the seed and
    the epoch.
    """
    images, labels = tf.constant(training.images), tf.constant(training.labels)
    count = len(training)
    shape = (batch_shape(params, count),)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=tf.stack([params.seed, epoch]))

        def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            chosen = order[start : start + params.batch_size]
            missing = [[0, shape[0] - tf.size(chosen)]]
            weights = tf.ensure_shape(tf.pad(tf.ones_like(chosen, tf.float32), missing), shape)
            chosen = tf.ensure_shape(tf.pad(chosen, missing), shape)
            seed = tf.stack([params.seed, epoch * count + start])
            return augmented(tf.gather(images, chosen), augment, seed=seed), tf.gather(labels, chosen), weights

        return tf.data.Dataset.range(0, count, params.batch_size).map(batch)

    return tf.data.Dataset.range(done, params.epochs).flat_map(epoch_batches).prefetch(2)


if __name__ == "__main__":
    with one_line_errors(), interrupted_at_once():
        main()
