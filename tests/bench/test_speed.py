from tests.tables import cells
from tools import ROOT
from tools.bench.measure import Cost
from tools.bench.peers import KERAS, LIMIT, PYTORCH, THIS, Case
from tools.bench.speed import (
    BATCHES,
    IMAGES,
    LAYERS,
    THROUGHPUT,
    UNITS,
    costs_table,
    growth_table,
    measure,
    throughput_table,
)

SPEEDS = {case: 1_000.0 for case in (*THROUGHPUT, *LAYERS, *UNITS, *IMAGES) if case.peer != PYTORCH}


def test_the_table_has_every_peer_with_its_ratio_to_plain_keras_at_batch_32() -> None:
    speeds = SPEEDS | {Case(THIS, 64): 4_000.0, Case(THIS, 64, precision="bfloat16"): 5_500.0, Case(LIMIT): 6_000.0}
    made = throughput_table(speeds)
    rows = cells(made)
    assert rows[2] == [THIS, "1,000 (1.0x)", "4,000 (4.0x)", "1,000 (1.0x)"]
    assert rows[3] == [f"{THIS}, bfloat16", "1,000 (1.0x)", "5,500 (5.5x)", "1,000 (1.0x)"]
    assert rows[4][:2] == [KERAS, "1,000 (1.0x)"]
    assert rows[5] == [PYTORCH, *["not measured"] * len(BATCHES)]
    assert "6,000 (6.0x)" in made.splitlines()[-1]


def test_the_growth_table_has_one_row_for_each_network_and_number_of_images() -> None:
    rows = cells(growth_table(SPEEDS | {Case(THIS, units=(256, 256)): 250.0}))
    assert len(rows) == len(set(map(tuple, rows))) == 2 + 5 + 3
    assert ["2 x 256 units", "4000"] in rows
    assert ["2 x 128 units, an epoch of 60,000 images", "1000"] in rows


def test_costs_are_seconds_and_memory() -> None:
    assert cells(costs_table({"`evaluate`": Cost(11.26, 1_150)}))[2] == ["`evaluate`", "11.3", "1,150"]


def test_a_case_is_measured_in_a_process_of_its_own() -> None:
    case = Case(LIMIT, images=256)
    assert measure([case], rounds=1)[case] > 0


def test_the_page_about_speed_has_the_committed_tables_of_throughput_and_costs() -> None:
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    throughput, _, costs, _ = (ROOT / "reports/benchmarks/benchmark.md").read_text(encoding="utf-8").split("\n\n", 3)
    assert throughput in page
    assert costs in page
