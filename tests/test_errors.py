import pytest

from stages.errors import InputError, one_line_errors


@pytest.mark.parametrize(
    "error",
    [InputError("a.npz: expected this,\n found that"), OSError(28, "No space left on device", "a.npz"), MemoryError()],
)
def test_a_foreseen_error_ends_with_one_line(error: Exception) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    # sys.exit prints a text and ends with exit code 1.
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith("error: ")
    assert len(end.value.code) > len("error: ")
    assert "\n" not in end.value.code


def test_ctrl_c_ends_without_traceback() -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise KeyboardInterrupt
    assert end.value.code == 130


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
