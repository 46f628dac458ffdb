"""Tables that a test takes apart."""


def cells(markdown: str) -> list[list[str]]:
    """The cells of a table, row by row: its head, the line below it, and the rest."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("|")
    ]
