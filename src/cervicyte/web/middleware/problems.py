"""What an error is called on the web: its status, what may be said of it, and when to come again.

Only ``what`` and ``todo`` of an error are shown. What was received may be a path or an address of this machine, and
stands in the log; a program is told it where it is a value that the program sent.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from cervicyte.errors import BundleError, CervicyteError, MissingError, StorageError
from cervicyte.web.errors import (
    AddressNotFoundError,
    BadRequestError,
    BusyError,
    DeniedError,
    ForgedRequestError,
    InvalidFieldError,
    MailError,
    NotFoundError,
    SignInRequiredError,
    StoppedError,
    TooManyRequestsError,
    WrongHostError,
)

#: Seconds after which a busy or full store is asked again, and a server without a model.
_STORE_S, _MODEL_S = 5, 60


@dataclass(frozen=True)
class Problem:
    """An error as the web shows it; ``retry_after`` in seconds, and ``bug`` where the log needs its traceback.

    ``received`` is told to programs where it is what they sent, and else empty.
    """

    status: int
    what: str = ""
    todo: str = ""
    retry_after: int | None = None
    bug: bool = False
    received: str = ""


#: The first class that an error is of decides; seconds to come again where that helps.
_STATUS: tuple[tuple[type[CervicyteError], int, int | None], ...] = (
    (AddressNotFoundError, 404, None),
    (NotFoundError, 404, None),
    (SignInRequiredError, 401, None),
    (ForgedRequestError, 403, None),
    (WrongHostError, 400, None),
    (DeniedError, 403, None),
    (TooManyRequestsError, 429, None),
    (BusyError, 503, 1),
    (StoppedError, 503, _MODEL_S),
    (StorageError, 503, _STORE_S),
    (BundleError, 503, _MODEL_S),
    (MailError, 503, None),
    (MissingError, 500, None),
    (CervicyteError, 422, None),
)


def describe(error: BaseException) -> Problem:
    """How an error is answered.

    >>> describe(StorageError("the database is busy", "sqlite:////srv/x", "try again")).what
    'the database is busy'
    """
    if _is_full(error):
        what, todo = "the disk of this server is full", "nothing of this request was stored; tell your administrator"
        return Problem(507, what, todo)
    if isinstance(error, BadRequestError):
        return Problem(error.status, error.what, error.todo or "", received=error.received or "")
    if isinstance(error, CervicyteError):
        status, wait = next((status, wait) for kind, status, wait in _STATUS if isinstance(error, kind))
        wait = getattr(error, "retry_after_s", wait)
        received = error.received if isinstance(error, InvalidFieldError) else None
        return Problem(status, error.what, error.todo or "", wait, status == 500, received or "")
    if isinstance(error, RequestEntityTooLarge):
        return Problem(413, "the request is too large", "send fewer or smaller files at a time")
    if isinstance(error, HTTPException) and error.code is not None:
        return Problem(error.code)
    return Problem(500, bug=True)


def _is_full(error: BaseException) -> bool:
    """Whether there was no room: to come again in a few seconds would not help."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or (isinstance(error, StorageError) and "full" in error.what)


def sentence(error: CervicyteError) -> str:
    """An error as a sentence or two beside a form.

    >>> sentence(CervicyteError("the name is empty", "''", "write one"))
    'The name is empty. Write one.'
    """
    return " ".join(f"{part[:1].upper()}{part[1:]}." for part in (error.what, error.todo) if part)
