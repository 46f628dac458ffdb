"""TensorFlow as this project uses it: imported quietly, on the CPU, with repeatable results.

One thread an operation and as many operations at once as there are cores: no sum is ordered by the number of cores.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from stages.errors import interrupted_at_once

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's other projects prefer


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, from C++ too, and show it only if the block fails."""
    sys.stderr.flush()
    with (
        os.fdopen(os.dup(2), "wb", buffering=0) as terminal,
        tempfile.TemporaryFile() as held,
        interrupted_at_once(terminal.fileno()),
    ):
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            terminal.write(held.read())
            raise
        finally:
            os.dup2(terminal.fileno(), 2)


with _quiet_stderr():
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    tf.config.experimental.enable_op_determinism()
    # Rewriting the graphs of this project gains nothing and more than doubles the time to the first step.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    tf.zeros(1)

import keras  # noqa: E402 - after TensorFlow, whose noise it would repeat

keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")

__all__ = ["keras", "tf"]
