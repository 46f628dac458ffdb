"""Parameters of small runs, and functions that write them to params.yaml."""

from pathlib import Path
from typing import Any

import yaml

from stages import params
from stages.params import Params
from tools import ROOT

# A run on the embedded digits, which takes seconds.
SMALL = {
    "prepare__dataset": "digits",
    "prepare__validation_size": 200,
    "model__lstm_units": [16],
    "train__epochs": 2,
    "train__learning_rate": 0.01,
}

# Every change to images at once.
AUGMENT = {
    "augment__shift": 2,
    "augment__rotation": 10,
    "augment__shear": 10,
    "augment__scale": 0.1,
    "augment__elastic": 1,
}

# Parameters with which training diverges soon.
DIVERGING = {
    "model__activation": "elu",
    "train__learning_rate": 10,
    "train__warmup": 0,
    "train__decay": 0,
    "train__batch_size": 32,
}


def make_params(**changes: object) -> Params:
    """Return the committed parameters with the changes `section__name=value`."""
    return Params.model_validate(changed_params(**changes))


def write_params(folder: Path, **changes: object) -> None:
    """Write the committed params.yaml with the changes `section__name=value`, valid or not."""
    (folder / params.PATH).write_text(yaml.safe_dump(changed_params(**changes)), encoding="utf-8")


def changed_params(**changes: object) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / params.PATH).read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, key = name.split("__")
        assert key in values[section]
        values[section][key] = value
    return values
