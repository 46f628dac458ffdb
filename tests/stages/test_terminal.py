import sys

import pytest

from stages.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a digit: 7 (ü, 数, 😀)", "a digit: 7 (ü, 数, 😀)"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\rb\nc\td\x7f\x00", r"a\rb\nc\td\x7f\x00"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("gnp.\u202eexe\u2066\u200e", r"gnp.\u202eexe\u2066\u200e"),
        ("\u2028\u2029", r"\u2028\u2029"),
        (b"\xff.png".decode(errors="surrogateescape"), r"\udcff.png"),
        ("\U000e0001", r"\U000e0001"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_all_that_is_left_can_be_written() -> None:
    shown = printable("".join(map(chr, range(sys.maxunicode + 1))))
    assert shown.isprintable()
    shown.encode()
