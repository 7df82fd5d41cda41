"""Word numbers for people who read messages."""


def plural(n: int, noun: str) -> str:
    """Word a count, with the noun in its plural where it is not one.

    >>> plural(1, "file"), plural(2, "file")
    ('1 file', '2 files')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"
