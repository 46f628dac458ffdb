"""Experiments as DVC keeps them, made of a commit without training."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pygit2

from stages import history, report
from tests.clones import Clone
from tools.runs import lock


def add_experiment(clone: Clone, name: str, accuracy: float, time: int, **changes: Any) -> str:
    """Keep an experiment with changed parameters of `train` and a test accuracy. Return its commit."""
    git = pygit2.Repository(str(clone.folder))
    head = git[git.head.target].peel(pygit2.Commit)
    recorded = clone.run("git", "show", f"HEAD:{lock.PATH}")
    start = recorded.index("        train:\n")
    section = recorded[start:]
    for parameter, value in changes.items():
        section = re.sub(rf"(\n +{parameter}: ).*", rf"\g<1>{json.dumps(value)}", section, count=1)
    metrics = json.loads(clone.run("git", "show", f"HEAD:{report.PATH}"))
    images = sum(digit["images"] for digit in metrics["test"]["per_class"])
    errors = round((1 - accuracy) * images)
    metrics["test"] |= {"accuracy": 1 - errors / images, "errors": errors}
    epochs = changes.get("epochs", 2)
    rows = [
        f"{epoch},{accuracy - 0.1 / epoch},{0.3 / epoch},{accuracy - 0.05 / epoch},{0.2 / epoch},0.001"
        for epoch in range(1, epochs + 1)
    ]
    files = {
        lock.PATH: recorded[:start] + section,
        report.PATH: json.dumps(metrics),
        history.PATH: "\n".join([",".join(history.NEEDED), *rows]) + "\n",
    }
    index = pygit2.Index()
    index.read_tree(head.tree)
    for path, text in files.items():
        index.add(pygit2.IndexEntry(str(path), git.create_blob(text.encode()), pygit2.enums.FileMode.BLOB))
    signature = pygit2.Signature("A", "a@example.org", time, 0)
    made = git.create_commit(None, signature, signature, "dvc: commit experiment", index.write_tree(git), [head.id])
    baseline = str(head.id)
    git.references.create(f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", made, force=True)
    return str(made)


def add_all(clone: Clone, experiments: Mapping[str, tuple[float, Mapping[str, Any]]]) -> None:
    """Keep experiments, each an hour newer than the one before it."""
    for number, (name, (accuracy, changes)) in enumerate(experiments.items()):
        add_experiment(clone, name, accuracy, 1_800_000_000 + 3600 * number, **changes)
