"""TensorFlow as this project uses it: imported quietly, on the CPU, with repeatable results.

One thread an operation and as many operations at once as there are cores: no sum is ordered by the number of cores.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from stages.errors import interrupted_at_once, needs_one_line

# TensorFlow, oneDNN, XLA, OpenMP and Keras take no setting from the user's shell or other projects: some change bits.
# Keras finds no folder to write its own settings to.
SETTINGS = ("DNNL_", "ITEX_", "KERAS_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "TF2_", "TF_", "XLA_")
for name in [name for name in os.environ if name.startswith(SETTINGS)]:
    del os.environ[name]
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", KERAS_HOME=os.devnull)

HOLD = "import sys; sys.stderr.buffer.write(sys.stdin.buffer.read())"


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, from C++ too, and show it only if the block fails.

    A child process holds the text. It shows the text even where C++ aborts this process, as on a processor without AVX.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    held, end = os.pipe()
    # In a session of its own, where Ctrl-C does not reach it.
    child = subprocess.Popen([sys.executable, "-ISc", HOLD], stdin=held, start_new_session=True)  # noqa: S603
    os.dup2(end, 2)
    os.close(held)
    os.close(end)

    def drop() -> None:
        child.kill()
        os.dup2(terminal, 2)

    try:
        with interrupted_at_once(drop):
            yield
        drop()
    except BaseException as error:
        if needs_one_line(error):
            drop()
        os.dup2(terminal, 2)  # the end of what the child reads
        raise
    finally:
        child.wait()
        os.close(terminal)


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Keep TensorFlow and Keras from importing packages that they need for nothing here."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    missing = [name for name in packages if name not in modules]
    modules.update(dict.fromkeys(missing))
    try:
        yield
    finally:
        for name in missing:
            del modules[name]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Make no search for garbage among the million objects of an import, now or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# Matplotlib fails with the settings of some notebooks, and scikit-learn takes a fifth of the time.
with _quiet_stderr(), _without("matplotlib", "sklearn"), _without_collector():
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    tf.config.experimental.enable_op_determinism()
    # Rewriting the graphs of this project gains nothing and more than doubles the time to the first step.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    tf.zeros(1)

    import keras  # after TensorFlow's settings

__all__ = ["keras", "tf"]
