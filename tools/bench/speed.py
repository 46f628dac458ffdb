"""Measure the speed of this project and its peers: `make bench` -> reports/benchmarks/. Not part of `dvc repro`.

Every measurement is a separate process. The cases take turns, so that ratios stay right if the speed of the machine
changes. The fastest measurement of a case counts, because other work only adds time. `--quick` prints one round and
writes nothing. tools/bench/recipes.py measures whole trainings.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stages import archive, dataset, history
from stages.dataset import Dataset
from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import ROOT, make_parser, tables
from tools.bench import recipes
from tools.bench.measure import Cost, environment, run
from tools.bench.peers import KERAS, LIMIT, PEERS, PYTORCH, THIS, Case

RESULTS = Path("reports/benchmarks")
ROUNDS = 2
BATCHES = (32, 64, 128)
IMAGES_A_PROCESS = 10_240  # or one epoch, if that is more

# Rows of the throughput table: name -> peer and precision.
ROWS = {
    THIS: (THIS, "float32"),
    f"{THIS}, bfloat16": (THIS, "bfloat16"),
    KERAS: (KERAS, "float32"),
    PYTORCH: (PYTORCH, "float32"),
}
THROUGHPUT = [
    Case(LIMIT),
    *(Case(peer, batch, precision=precision) for batch in BATCHES for peer, precision in ROWS.values()),
]
LAYERS = [Case(THIS, units=(128,) * depth) for depth in (1, 2, 3)]
UNITS = [Case(THIS, units=(units,) * 2) for units in (64, 128, 256)]
IMAGES = [Case(THIS, images=images) for images in (15_000, 30_000, 60_000)]

Speeds = Mapping[Case, float]  # images a second


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="print one round, in a few minutes, and write nothing")
    parser.add_argument("--one", metavar="CASE", help="measure one case in this process and print images/s")
    arguments = parser.parse_args()
    if arguments.one:
        case = json.loads(arguments.one)
        print(images_per_second(Case(**case | {"units": tuple(case["units"])})))
        return
    costs = stage_costs()
    cases = THROUGHPUT if arguments.quick else [*THROUGHPUT, *LAYERS, *UNITS, *IMAGES]
    speeds = measure(cases, rounds=1 if arguments.quick else ROUNDS)
    report = "\n".join([throughput_table(speeds), costs_table(costs), "" if arguments.quick else growth_table(speeds)])
    print(report, end="")
    if not arguments.quick:
        result = {
            "environment": environment(),
            "images_per_second": [asdict(case) | {"speed": round(speed)} for case, speed in speeds.items()],
            "costs": {name: cost._asdict() for name, cost in costs.items()},
        }
        with replacing(RESULTS / "benchmark.json") as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        with replacing(RESULTS / "benchmark.md") as temporary:
            temporary.write_text(report, encoding="utf-8")


# Training steps


def measure(cases: Iterable[Case], *, rounds: int) -> Speeds:
    """Measure every case `rounds` times, in turns, and keep the fastest."""
    cases = [case for case in dict.fromkeys(cases) if case.peer != PYTORCH or find_spec("torch")]
    best = dict.fromkeys(cases, 0.0)
    for _ in range(rounds):
        for case in cases:
            printed, _ = run("-m", "tools.bench.speed", "--one", json.dumps(asdict(case)), folder=ROOT)
            speed = float(printed.splitlines()[-1])
            print(f"{case}: {speed:,.0f} images/s", file=sys.stderr, flush=True)
            best[case] = max(speed, best[case])
    return best


def images_per_second(case: Case) -> float:
    """Measure images trained per second in this process: the fastest epoch, after two batches as a warm-up."""
    rng = np.random.default_rng(0)
    count = -(-case.images // case.batch) * case.batch
    images = rng.random((count, dataset.SIDE, dataset.SIDE), np.float32)
    labels = rng.integers(0, dataset.CLASSES, count).astype(np.uint8)
    epoch = PEERS[case.peer](case)
    epoch(images[: 2 * case.batch], labels[: 2 * case.batch])
    seconds = []
    for _ in range(max(1, IMAGES_A_PROCESS // count)):
        started = time.perf_counter()
        epoch(images, labels)
        seconds.append(time.perf_counter() - started)
    return count / min(seconds)


def throughput_table(speeds: Speeds) -> str:
    """Make the Markdown table of the speeds, each with its ratio to plain Keras at batch 32."""
    base = speeds[Case(KERAS, 32)]
    rows = []
    for name, (peer, precision) in ROWS.items():
        found = (speeds.get(Case(peer, batch, precision=precision)) for batch in BATCHES)
        rows.append((name, *(f"{speed:,.0f} ({speed / base:.1f}x)" if speed else "not measured" for speed in found)))
    limit = speeds[Case(LIMIT)]
    return (
        tables.markdown(("images/s (ratio)", *(f"batch {batch}" for batch in BATCHES)), rows)
        + f"\n\nLimit, the network's matrix products alone, large and float32: {limit:,.0f} ({limit / base:.1f}x).\n"
    )


def growth_table(speeds: Speeds) -> str:
    """Make the Markdown table of the training time of an image, for several networks and numbers of images."""
    names = {case: f"{len(case.units)} x {case.units[0]} units" for case in (*LAYERS, *UNITS)}
    names |= {case: f"2 x 128 units, an epoch of {case.images:,} images" for case in IMAGES}
    rows = [(name, f"{1e6 / speeds[case]:.0f}") for case, name in names.items()]
    return tables.markdown(("this project, batch 128", "microseconds an image"), rows) + "\n"


# Costs outside training


def stage_costs() -> Mapping[str, Cost]:
    """Measure the costs outside training, each as a whole process with local files.

    Raises `InputError` if the pipeline is not up to date.
    """
    if json.loads(run("-m", "dvc", "status", "--json", folder=ROOT)[0]):
        raise InputError("the pipeline is not up to date, so its costs cannot be measured; run `dvc repro` first")
    costs = {"`dvc repro` with nothing to do": run("-m", "dvc", "repro", folder=ROOT)[1]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch_size = recipes.write_params(folder)["train"]["batch_size"]
        _, costs["`prepare` from local files"] = run("-m", "stages.prepare", folder=folder)
        for path in (archive.PATH, history.PATH):
            (folder / path).parent.mkdir()
            (folder / path).symlink_to(ROOT / path)
        _, costs["`evaluate`"] = run("-m", "stages.evaluate", folder=folder)

        recipes.write_params(folder, ["train.epochs=1"])
        validation = dataset.load(folder / dataset.VALIDATION)
        batch = Dataset(validation.images[:batch_size], validation.labels[:batch_size])
        for path in (dataset.TRAIN, dataset.VALIDATION):
            dataset.save(batch, folder / path)
        _, costs["`train` on a single batch: start-up"] = run("-m", "stages.train", folder=folder)
    return costs


def costs_table(costs: Mapping[str, Cost]) -> str:
    rows = [(name, f"{cost.seconds:.1f}", f"{cost.peak_mib:,}") for name, cost in costs.items()]
    return tables.markdown(("whole process", "seconds", "peak memory, MiB"), rows) + "\n"


if __name__ == "__main__":
    with one_line_errors():
        main()
