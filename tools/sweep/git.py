"""Why a command of git failed."""

from stages.terminal import printable


def reason_of(told: str) -> str:
    """Say in one line why git failed. It tells that first; after an empty line, advice for a login follows."""
    lines = [line for line in told.strip().partition("\n\n")[0].splitlines() if not line.startswith("hint:")]
    return printable(" ".join(" ".join(lines).split())) or "no message"
