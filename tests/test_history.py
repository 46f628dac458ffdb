from pathlib import Path

import pytest

from stages.errors import InputError
from stages.history import Epoch, load_history, save_history

TWO = [Epoch(1, 0.9, 0.3, 0.95, 0.2, 0.001), Epoch(2, 0.97, 0.1, 0.96, 0.12, 0.0)]


def test_a_row_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    save_history(TWO, path)
    assert path.read_text() == (
        "epoch,training_accuracy,training_loss,validation_accuracy,validation_loss,learning_rate\n"
        "1,0.9,0.3,0.95,0.2,0.001\n"
        "2,0.97,0.1,0.96,0.12,0\n"
    )
    assert [Epoch(*row) for row in load_history(path).itertuples(index=False)] == TWO


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table"),
        ("epoch,loss\n1,2\n", "found 1 rows of epoch, loss"),
        (",".join(Epoch._fields) + "\n", "found 0 rows"),
        (",".join(Epoch._fields) + "\n1,2,3,4,5,x\n", "found 1 rows .* with 1 cells that are none"),
        (",".join(Epoch._fields) + "\n1,0.5\n", "found 1 rows .* with 4 cells that are none"),
    ],
)
def test_anything_else_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_history(path)
    assert "dvc repro --force train" in str(error.value)


def test_a_missing_file_comes_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"history\.csv: not found; make it with `dvc repro train`"):
        load_history(tmp_path / "history.csv")
