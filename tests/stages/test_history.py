from pathlib import Path

import pytest

from stages import history
from stages.errors import InputError
from stages.history import Epoch

TWO = [Epoch(1, 0.9, 0.3, 0.95, 0.2, 0.001), Epoch(2, 0.97, 0.1, 0.96, 0.12, 0.0)]


def test_each_epoch_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    history.save(TWO, path)
    assert path.read_text() == (
        "epoch,training_accuracy,training_loss,validation_accuracy,validation_loss,learning_rate\n"
        "1,0.9,0.3,0.95,0.2,0.001\n"
        "2,0.97,0.1,0.96,0.12,0\n"
    )
    assert [Epoch(*row) for row in history.load(path).itertuples(index=False)] == TWO


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table"),
        ("epoch,loss\n1,2\n", "found 1 rows of epoch, loss"),
        (",".join(Epoch._fields) + "\n", "found 0 rows"),
        (",".join(Epoch._fields) + "\n1,2,3,4,5,x\n", "found 1 other cells"),
        (",".join(Epoch._fields) + "\n1,0.5\n", "found 4 other cells"),
    ],
)
def test_anything_else_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        history.load(path)
    assert "dvc repro --force train" in str(error.value)


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"history\.csv: not found; restore it with `dvc repro --force train`"):
        history.load(tmp_path / "history.csv")


def test_columns_that_this_code_does_not_know_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    history.save(TWO, path)
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"seconds,{head}", *(f"fast,{row}" for row in rows)]))
    assert history.load(path)[list(Epoch._fields)].to_numpy().tolist() == [list(epoch) for epoch in TWO]
