import pytest

from stages.errors import InputError
from stages.predictions import parse_own

HEAD = "picture,actual,predicted,confidence\n"
NAME = "12345678901234567890123456789012"


def test_a_name_stays_a_text_whatever_it_looks_like() -> None:
    for name in (NAME, "12345e78901234567890123456789012", "0" * 32):
        table = parse_own(f"{HEAD}{name},3,3,0.5\n", "own")
        assert table["picture"].tolist() == [name]


def test_there_may_be_no_pictures() -> None:
    assert parse_own(HEAD, "own").empty
    assert parse_own(HEAD.replace("\n", ",margin\n"), "own").empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}{NAME},3,3,0.5\n{NAME},4,4,0.5\n", "own: expected different pictures, digits of 0-9 and confidences"),
        (f"{HEAD}{NAME},10,3,0.5\n", "found others in 1 rows"),
        (f"{HEAD}{NAME},3,3,1.5\n", "found others in 1 rows"),
        (f"{HEAD}{NAME},3,,0.5\n", "found others in 1 rows"),
        ("index,actual,predicted,confidence\n", "own: expected the columns picture, .*, found 0 rows of index"),
        ("", "own: not a table"),
    ],
)
def test_other_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_own(text, "own")
