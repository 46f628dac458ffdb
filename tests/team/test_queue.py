"""Experiments that run side by side, and experiments that are shared between clones."""

import json
import re
import time

import pytest

from tests.team.people import Team


@pytest.mark.parametrize("storage", ["s3"], indirect=True)
def test_queued_experiments_run_two_at_a_time_and_reach_another_clone(team: Team) -> None:
    for seed in (1, 2):
        team.ann.run("dvc", "exp", "run", "--queue", "--name", f"seed-{seed}", "--set-param", f"train.seed={seed}")
    team.ann.start_queue(jobs=2)
    while re.search("Queued|Running", status := team.ann.run("dvc", "queue", "status")):
        time.sleep(1)
    assert status.count("Success") == 2, status
    shown = json.dumps(team.ann.json("dvc", "exp", "show", "--json"))
    assert '"seed-1"' in shown
    assert '"seed-2"' in shown

    team.ann.run("dvc", "exp", "push", "origin", "seed-2")
    team.ben.run("dvc", "exp", "pull", "origin", "seed-2")
    for clone in (team.ann, team.ben):
        clone.run("dvc", "exp", "apply", "seed-2")
        assert clone.json("dvc", "status", "--json") == {}
        assert "seed: 2" in (clone.folder / "params.yaml").read_text()
    assert team.ben.content() == team.ann.content()
