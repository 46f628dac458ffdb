import subprocess
import sys

from tools import ROOT

PROGRAM = """
import sys
from stages.history import Epoch
from stages.progress import Progress
with Progress(epochs=2, steps=3) as progress:
    progress.step(3)
    progress.epoch(Epoch(1, 0.9, 0.31, 0.95, 0.21, 0.001))
    sys.stdin.readline()
"""


def test_without_a_terminal_each_epoch_is_a_line_as_soon_as_it_is_over() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        line = process.stdout.readline()  # while the program waits for its input
        assert line == (
            "epoch 1/2: training accuracy 90.00%, loss 0.3100; validation accuracy 95.00%, loss 0.2100; 0 s, 0 s left\n"
        )
        rest, errors = process.communicate("go on\n")
    assert (rest, errors) == ("", "")
