"""data/processed/{train,validation}.npz -> models/lstm.keras and reports/history.csv."""

import math
from collections.abc import Callable, Iterator

from stages import archive, dataset, model
from stages.augment import augmented
from stages.dataset import Dataset
from stages.errors import InputError, one_line_errors
from stages.history import HISTORY, Epoch, save_history
from stages.params import Augment, Params, Train, load_params
from stages.progress import Progress
from stages.runtime import keras, tf

VALIDATION_BATCH = 500  # images; nothing but speed and memory depends on it


def main() -> None:
    params = load_params()
    training, validation = dataset.load(dataset.TRAIN), dataset.load(dataset.VALIDATION)
    network = model.build(params.model, seed=params.train.seed)
    history = []
    for epoch in train(network, params, training, validation):
        history.append(epoch)
        save_history(history, HISTORY)
    archive.save(network, archive.MODEL)


def train(network: keras.Model, params: Params, training: Dataset, validation: Dataset) -> Iterator[Epoch]:
    """Train a network in place, and give after each epoch what was measured in it.

    Raises `InputError` after an epoch in which the loss was not finite.
    """
    epochs = params.train.epochs
    steps = math.ceil(len(training) / params.train.batch_size)
    optimizer = make_optimizer(params.train, steps=epochs * steps)
    learn = make_learner(network, optimizer)
    stream = iter(batches(training, params.train, params.augment))
    with Progress(epochs=epochs, steps=steps) as progress:
        for number in range(1, epochs + 1):
            loss, correct = 0.0, 0
            for _ in range(steps):
                rate = float(optimizer.learning_rate)
                batch_loss, batch_correct = learn(*next(stream))
                loss += float(batch_loss)
                correct += int(batch_correct)
                progress.step()
            validation_accuracy, validation_loss = score(network, validation)
            epoch = Epoch(
                epoch=number,
                training_accuracy=correct / len(training),
                training_loss=loss / len(training),
                validation_accuracy=validation_accuracy,
                validation_loss=validation_loss,
                learning_rate=rate,
            )
            if not math.isfinite(epoch.training_loss + epoch.validation_loss):
                raise InputError(
                    f"training diverged in epoch {number}: expected a finite loss, found {epoch.training_loss}; "
                    "lower train.learning_rate or raise train.warmup in params.yaml"
                )
            progress.epoch(epoch)
            yield epoch


def make_optimizer(params: Train, *, steps: int) -> keras.optimizers.Optimizer:
    """Make the optimizer with its schedule: up from 0 in a straight line, then down along a cosine, or level."""
    warmup = round(params.warmup * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=params.learning_rate,
        warmup_steps=warmup,
        decay_steps=steps - warmup,
        alpha={"cosine": 0.0, "constant": 1.0}[params.schedule],
    )
    return keras.optimizers.get({"class_name": params.optimizer, "config": {"learning_rate": rate}})


def make_learner(
    network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Make the function that learns from one batch and returns the sum of its losses and how many were right."""
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True)
    def learn(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            probabilities = network(images, training=True)
            loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(labels, probabilities))
            mean = loss / tf.cast(tf.shape(labels)[0], tf.float32)
        optimizer.apply(tape.gradient(mean, network.trainable_weights), network.trainable_weights)
        return loss, tf.math.count_nonzero(tf.argmax(probabilities, axis=1) == tf.cast(labels, tf.int64))

    return learn


def score(network: keras.Model, images: Dataset) -> tuple[float, float]:
    """Compute accuracy and mean cross-entropy."""
    probabilities = network.predict(images.images, batch_size=VALIDATION_BATCH, verbose=0)
    loss = keras.losses.sparse_categorical_crossentropy(images.labels, probabilities)
    return float((probabilities.argmax(axis=1) == images.labels).mean()), float(tf.reduce_mean(loss))


def batches(training: Dataset, params: Train, augment: Augment) -> tf.data.Dataset:
    """Stream the batches of all epochs. Order and augmentation of each follow from the seed and the epoch alone."""
    images, labels = tf.constant(training.images), tf.constant(training.labels)
    count, size = len(training), params.batch_size

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=tf.stack([params.seed, epoch]))

        def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = order[start : start + size]
            seed = tf.stack([params.seed, epoch * count + start])
            return augmented(tf.gather(images, chosen), augment, seed=seed), tf.gather(labels, chosen)

        return tf.data.Dataset.range(0, count, size).map(batch)

    return tf.data.Dataset.range(params.epochs).flat_map(epoch_batches).prefetch(2)


if __name__ == "__main__":
    with one_line_errors():
        main()
