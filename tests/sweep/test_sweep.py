"""The command `make sweep`."""

from collections.abc import MutableMapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import ROOT
from tools.sweep import record, table
from tools.sweep.record import Key, Outcome
from tools.sweep.specification import Sweep

pytest.importorskip("ray")  # `make test-sweep` installs it


@pytest.mark.parametrize(("state", "code"), [("failed", None), ("", 1)])
def test_the_exit_code_is_1_if_a_trial_was_not_run(
    state: str, code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.sweep import sweep  # noqa: PLC0415

    def run(_: Sweep, __: object, outcomes: MutableMapping[Key, Outcome], ___: Path) -> None:
        for seed in range(5):
            outcomes[0, seed] = Outcome.model_validate({"ended": state if seed == 3 else "failed", "changes": {}})

    for module in (record, table):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(sweep, "make_job", lambda *_: SimpleNamespace(commit="a" * 40))
    monkeypatch.setattr(sweep, "cluster", lambda _: nullcontext())
    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr("tools.sweep.remote.experiments", lambda *_: {})
    monkeypatch.setattr("sys.argv", ["sweep", str(ROOT / "sweeps/seeds.yaml")])
    monkeypatch.chdir(ROOT)
    if code is None:
        sweep.main()
    else:
        with pytest.raises(SystemExit) as ends:
            sweep.main()
        assert ends.value.code == code
    printed = capsys.readouterr().out
    assert ("1 not run: run the same command again" in printed) == (code == 1)
    assert (tmp_path / "seeds.html").as_uri() in printed
