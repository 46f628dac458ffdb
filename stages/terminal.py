"""What of a text reaches a terminal."""


def printable(text: str) -> str:
    r"""Show what moves a cursor, colours, or turns a line around as an escape: `\x1b` and the like.

    A name or a value may come from anyone. A new line is escaped too, and a byte of a name that is no UTF-8.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
