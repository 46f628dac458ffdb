"""The page about a sweep: reports/sweeps/NAME.html, one file that opens without a network."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from markupsafe import Markup

from stages import history
from stages.files import replacing
from tools.pages import plots_page
from tools.pages.charts import learning
from tools.pages.experiments import plain, text
from tools.pages.page import templates
from tools.sweep import table
from tools.sweep.record import Key, Outcome, name_of
from tools.sweep.search import distributions, encoded_of
from tools.sweep.specification import SEED, Sweep
from tools.sweep.table import Candidate

FORMS = {"validation_accuracy": "percent", "validation_loss": "number"}
KINDS = {"finished": "experiment", "stopped": "stopped early", "failed": "failed", "": "not run"}


def write(name: str, sweep: Sweep, commit: str, outcomes: Mapping[Key, Outcome]) -> Path:
    """Write the page, and return its path."""
    path = table.FOLDER / f"{name}.html"
    with replacing(path) as temporary:
        temporary.write_text(page(name, sweep, commit, outcomes), encoding="utf-8")
    return path


def page(name: str, sweep: Sweep, commit: str, outcomes: Mapping[Key, Outcome]) -> str:
    """Return the whole page. Texts from files are escaped."""
    ordered = table.candidates(sweep, outcomes)
    # The page replaces the data by those of the chosen trials.
    none = pd.DataFrame([history.Epoch(1, 0, 0, 0, 0, 0)])
    return (
        templates(Path(__file__).parent, escape_html=True)
        .get_template("sweep.html.j2")
        .render(
            drawing=Markup(plots_page.drawing(plots_page.PAGE.read_text(encoding="utf-8"))),  # noqa: S704 - our own
            name=name,
            metric=sweep.metric.replace("_", " "),
            lower=sweep.direction == "minimize",
            told=table.counted(commit, outcomes),
            count=len(outcomes),
            best=best_of(name, sweep, ordered),
            importance=importance(sweep, ordered),
            measured=sum(bool(candidate.values(sweep.metric)) for candidate in ordered),
            faults=[],
            comparisons=[],
            charts={quantity: learning(quantity, {"": none}) for quantity in ("accuracy", "loss")},
            table=rows(name, sweep, outcomes),
        )
    )


def best_of(name: str, sweep: Sweep, ordered: Sequence[Candidate]) -> dict[str, Any] | None:
    """Say which candidate is the best, if one finished with all its seeds."""
    if not ordered or not ordered[0].is_whole:
        return None
    values = ordered[0].values(sweep.metric)
    return {
        "name": f"{name}-{ordered[0].number}",
        "shown": table.number(sweep, statistics.mean(values)),
        "seeds": len(values),
        "interval": table.interval(sweep, values),
        "command": table.command(name, ordered[0]),
    }


def rows(name: str, sweep: Sweep, outcomes: Mapping[Key, Outcome]) -> dict[str, Any]:
    """Collect what the page shows of each trial, in the form of the page of all experiments."""
    other = next(metric for metric in FORMS if metric != sweep.metric)
    shown = [(sweep.metric, FORMS[sweep.metric], True), (other, FORMS[other], False)]
    columns = [{"name": metric.replace("_", " "), "form": form, "shown": is_shown} for metric, form, is_shown in shown]
    columns += [{"name": each, "form": "count", "shown": True} for each in ("epochs", "seconds")]
    parameters = [*sweep.change, *([SEED] if sweep.seeds > 1 else [])]
    return {
        "objective": sweep.metric,
        "lower": sweep.direction == "minimize",
        "metrics": columns,
        "sets": 1,
        "params": [{"name": each, "shown": each in sweep.varied or each == SEED} for each in parameters],
        "rows": [
            {
                "name": name_of(name, (number, seed)),
                "kind": KINDS[outcome.ended],
                "reason": outcome.reason,
                "commit": "", "subject": "", "author": "", "date": "", "set": 0, "tested": "", "interval": None,
                "metrics": [
                    *(outcome.history[-1][metric] if outcome.history else None for metric, *_ in shown),
                    len(outcome.history),
                    None if outcome.seconds is None else round(outcome.seconds),
                ],
                "params": [plain({**outcome.changes, SEED: seed}.get(each)) for each in parameters],
                "candidate": number,
                "command": command(name, number, seed, outcome),
                "history": {
                    f"{part}_{quantity}": [round(row[f"{part}_{quantity}"], 5) for row in outcome.history]
                    for quantity in ("accuracy", "loss")
                    for part in ("training", "validation")
                },
            }
            for (number, seed), outcome in sorted(outcomes.items())
        ],
    }  # fmt: skip


def command(name: str, number: int, seed: int, outcome: Outcome) -> str:
    """Return the command that takes a trial, or that runs one here that has no experiment."""
    if outcome.ended == "finished":
        return f"dvc exp apply {name_of(name, (number, seed))}"
    changes = {**outcome.changes, SEED: seed}
    return shlex.join(["dvc", "exp", "run", *(f"--set-param={each}={text(value)}" for each, value in changes.items())])


def importance(sweep: Sweep, ordered: Sequence[Candidate]) -> list[tuple[str, float]]:
    """Estimate how much each parameter decides of the metric, the most important first; nothing from few candidates."""
    measured = [candidate for candidate in ordered if candidate.values(sweep.metric)]
    if len(sweep.varied) < 2 or len(measured) < 4:
        return []
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    means = [statistics.mean(candidate.values(sweep.metric)) for candidate in measured]
    worseness = means if sweep.direction == "minimize" else [1 - mean for mean in means]
    limit = 3 * statistics.median_high(worseness)  # as in experiments.js
    for candidate, value in zip(measured, worseness, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params=encoded_of(sweep, candidate.changes),
                distributions=distributions(sweep),
                value=min(value, limit),
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # all candidates are equal
        return []
    return [(each, round(share, 4)) for each, share in found.items()]
