"""What can go wrong on the web besides the errors of the library; `problems` gives each its status."""

from __future__ import annotations

from cervicyte.errors import CervicyteError, MissingError, UsageError


class DeniedError(CervicyteError):
    """A password, code, link or right that is not accepted; says nothing of which accounts there are."""


class NotFoundError(CervicyteError):
    """What is asked for does not exist, or may not be seen by who asks; nobody can tell which."""


class InvalidFieldError(UsageError):
    """A value that cannot be used; ``field`` is the name of the form's field that it came from."""

    def __init__(self, field: str, what: str, received: object = None, todo: str | None = None) -> None:
        self.field = field
        super().__init__(what, received, todo)


class AddressNotFoundError(CervicyteError):
    """What is asked for does not exist, or this user may not know that it does."""

    def __init__(self, what: str = "", todo: str | None = None) -> None:
        super().__init__(what, None, todo)


#: Least and most seconds after which one is asked to come back.
RETRY_S = (1, 60)


class BusyError(CervicyteError):
    """There is no room; nothing was taken. Come back in ``retry_after_s`` whole seconds."""

    def __init__(self, what: str, received: object, retry_after_s: int = RETRY_S[0]) -> None:
        super().__init__(what, received, f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class StoppedError(CervicyteError):
    """The predictor is closed, or its threads have died: this process answers no more pictures."""


class TooManyRequestsError(CervicyteError):
    """Something was tried too often; ``retry_after_s`` is when to come again, in seconds."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        minutes = max(1, round(retry_after_s / 60))
        super().__init__(what, None, f"wait {minutes} minute{'s' if minutes > 1 else ''} and try again")


class MailError(CervicyteError):
    """A message that could not be sent."""


class ForgedRequestError(CervicyteError):
    """A form or script that did not come from a page of this site, or from one that was open too long."""

    def __init__(self) -> None:
        super().__init__(
            "the request did not come from a page of this site, or the page was open too long",
            None,
            "go back, load the page again, and try once more",
        )


class SignInRequiredError(CervicyteError):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__("nobody is signed in", None, "sign in first; a program sends a token")


class WrongHostError(CervicyteError):
    """A request for another host than this site's."""

    def __init__(self) -> None:
        super().__init__(
            "this site is not known by that name", None, "use the address that CERVICYTE_PUBLIC_URL is set to"
        )


class BadRequestError(CervicyteError):
    """A program's request that cannot be read or used; ``status`` is 400, 413, 415 or 422."""

    def __init__(self, status: int, what: str, received: object = None, todo: str | None = None) -> None:
        self.status = status
        super().__init__(what, received, todo)


class PictureDeletedError(MissingError):
    """A picture of the snapshot was deleted before it was copied."""


class GivenUpError(Exception):
    """There is no time left; what is in hand waits for the next start."""


class ModelBrokenError(Exception):
    """The model answers for nothing any more."""
