"""Progress of training: a live bar on a terminal, and one line for each epoch everywhere."""

import time
from types import TracebackType

from tqdm import tqdm

from stages.history import Epoch


class Progress:
    """Show the progress and the remaining time of a training, and the figures of each finished epoch."""

    def __init__(self, *, epochs: int, steps: int, done: int = 0) -> None:
        self._epochs = epochs
        self._done = done  # epochs of earlier processes
        self._started = time.monotonic()
        # With `disable=None`, tqdm shows the bar only if standard error is a terminal.
        self._bar = tqdm(
            total=epochs * steps,
            initial=done * steps,
            desc=f"epoch {min(done + 1, epochs)}/{epochs}",
            unit=" batches",
            leave=False,
            disable=None,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.close()

    def step(self, count: int = 1) -> None:
        """Count finished batches."""
        self._bar.update(count)

    def epoch(self, epoch: Epoch) -> None:
        """Print the figures of a finished epoch."""
        seconds = time.monotonic() - self._started
        left = seconds / (epoch.epoch - self._done) * (self._epochs - epoch.epoch)
        with tqdm.external_write_mode():
            print(
                f"epoch {epoch.epoch}/{self._epochs}: "
                f"training accuracy {epoch.training_accuracy:.2%}, loss {epoch.training_loss:.4f}; "
                f"validation accuracy {epoch.validation_accuracy:.2%}, loss {epoch.validation_loss:.4f}; "
                f"{seconds:.0f} s, {left:.0f} s left",
                flush=True,
            )
        self._bar.set_description(f"epoch {min(epoch.epoch + 1, self._epochs)}/{self._epochs}")
