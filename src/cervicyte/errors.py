"""One family of errors, so that every message has the same three parts.

An error says what was wrong, what was received, and what to do next. The
command line turns each class into its own exit code, so that scripts can tell
"some images were unreadable" from "the test set leaks".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CervicyteError(Exception):
    """Base of all errors that a user can cause and mend.

    Parameters
    ----------
    what : what was wrong, one sentence without the final full stop
    received : the offending value, as the user would recognise it
    todo : what to type or change next

    >>> print(CervicyteError("no such class", "'foo'", "use one of: a, b"))
    no such class
      received: 'foo'
      to do:    use one of: a, b
    """

    exit_code = 4

    def __init__(self, what: str, received: object = None, todo: str | None = None) -> None:
        self.what = what
        self.received = None if received is None else str(received)
        self.todo = todo
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.received is not None:
            lines.append(f"  received: {self.received}")
        if self.todo:
            lines.append(f"  to do:    {self.todo}")
        return "\n".join(lines)

    @property
    def one_line(self) -> str:
        """The same three parts on one line, for table cells and logs."""
        parts = [self.what]
        if self.received is not None:
            parts.append(f"received {self.received}")
        if self.todo:
            parts.append(self.todo)
        return "; ".join(parts).replace("\n", " ")


class UsageError(CervicyteError):
    """An option, recipe, setting or name that cannot be used (exit code 2)."""

    exit_code = 2


class DataError(CervicyteError):
    """A data set, table or folder that cannot be used (exit code 4)."""

    exit_code = 4


class ImageError(DataError):
    """One image that cannot be used; the others go on."""


class LeakageError(CervicyteError):
    """Test cells share a group or a near duplicate with training cells (exit code 5)."""

    exit_code = 5


class MissingError(CervicyteError):
    """Weights, a file or an optional package that is not there (exit code 6)."""

    exit_code = 6


class BundleError(CervicyteError):
    """A bundle that is damaged, incomplete or from a newer version (exit code 7)."""

    exit_code = 7


class StorageError(CervicyteError):
    """The disk is full, read-only or not permitted (exit code 8)."""

    exit_code = 8


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The start of a hint that names what was probably meant, with a space behind it; empty where nothing is near.

    Parameters
    ----------
    known : what there is; letters in another case count as the same
    cutoff : how alike a name must be, 0 to 1

    >>> did_you_mean("groupd", ("grouped", "random"))
    "did you mean 'grouped'? "
    """
    by_lower = {row.lower(): row for row in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=cutoff)
    return f"did you mean {by_lower[near[0]]!r}? " if near else ""


#: What each exit code of the command line means; documented in docs/cli.md.
EXIT_CODES = {
    0: "done",
    1: "a bug in cervicyte: please report it",
    2: "an option, recipe or setting cannot be used",
    3: "done, but some inputs failed; each is listed with its reason",
    4: "the data cannot be used",
    5: "refused: test cells leak into the training set",
    6: "weights, a file or an optional package is missing",
    7: "the bundle is damaged, incomplete or too new",
    8: "the disk is full or not writable",
    130: "interrupted; the work so far is kept and goes on when the command is repeated",
}

#: Exit code of a command that did its work but had to report some inputs.
SOME_INPUTS_FAILED = 3
