"""Mail: the messages that the application sends, and sending them; or saying clearly that no mail is set up.

No message holds a word that a stranger typed, and a line break in an address or a subject is an error, so nobody can
make this server write to others what he likes.
"""

from __future__ import annotations

import logging
import queue
import re
import smtplib
import ssl
import threading
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from urllib.parse import SplitResult, unquote, urlsplit

from cervicyte.errors import CervicyteError, UsageError
from cervicyte.web.errors import MailError

_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)
_WAITING = 200
_log = logging.getLogger("cervicyte.web")


def normal_address(text: str) -> str:
    """An e-mail address as it is stored and compared: in lower case, an international domain in its ASCII form.

    Raises
    ------
    UsageError : it is not an address of the usual form (RFC 5321, without quotes and address literals)

    >>> normal_address("  Reader@Example.ORG ")
    'reader@example.org'
    """
    local, at, domain = text.strip().rpartition("@")
    try:
        # Python's IDNA also folds compatibility characters, so that look-alikes of ASCII become it or fail.
        domain = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        domain = ""
    labels = domain.split(".")
    usual = (
        at
        and len(local) <= 64
        and len(local) + len(domain) < 254
        and _LOCAL.fullmatch(local)
        and len(labels) >= 2
        and all(_LABEL.fullmatch(label) for label in labels)
    )
    if not usual:
        raise UsageError("not an e-mail address", repr(text[:100]), "write it as name@example.org")
    return f"{local.lower()}@{domain}"


@dataclass(frozen=True)
class Message:
    """A mail: one address, one line of subject, plain text."""

    to: str
    subject: str
    text: str


def invitation(to: str, link: str, days: int) -> Message:
    """To someone whom an administrator invites, or for whom an account was made."""
    return Message(
        to,
        "Your account of cervicyte",
        "You were invited to cervicyte, which sorts images of cervical cells for cytologists.\n\n"
        f"Open this link to choose your password:\n\n{link}\n\n"
        f"It works once, within {days} days. If you do not know what this is about, do nothing.\n",
    )


def registration_code(to: str, code: str, minutes: int) -> Message:
    """To someone who wants to register."""
    return Message(
        to,
        "Your code for cervicyte",
        f"Your code is {code}\n\n"
        f"Type it where you registered, within {minutes} minutes. If you did not register, do nothing.\n",
    )


def registered_already(to: str, link: str) -> Message:
    """To someone who wants to register and has an account."""
    return Message(
        to,
        "You have an account of cervicyte",
        "Someone, perhaps you, wanted to register with this address, which has an account already.\n\n"
        f"If you do not know the password any more, choose another one here:\n\n{link}\n",
    )


def reset_code(to: str, code: str, minutes: int) -> Message:
    """To someone who forgot the password."""
    return Message(
        to,
        "A new password for cervicyte",
        f"Your code is {code}\n\n"
        f"Type it where you asked for a new password, within {minutes} minutes. If it was not you who asked, do "
        "nothing: your password stays as it is.\n",
    )


def password_changed(to: str, link: str) -> Message:
    """To someone whose password was changed, who may not have done it."""
    return Message(
        to,
        "Your password of cervicyte was changed",
        "Your password was changed and every other sign-in was ended.\n\n"
        f"If it was not you, choose another one at once and tell your administrator:\n\n{link}\n",
    )


class Mailer:
    """Sends messages through one server; without one, `available` is False and sending says so.

    `send` waits for the server; `post` does not, so that a page takes as long whether or not it sends a mail.
    """

    def __init__(self, smtp_url: str = "", mail_from: str = "", timeout_s: float = 20.0) -> None:
        """Take the server's address; nothing is connected yet.

        Raises
        ------
        UsageError : the address of the server or of the sender cannot be used
        """
        self._server = _server(smtp_url) if smtp_url else None
        if smtp_url and not mail_from:
            raise UsageError("there is a mail server and no sender", None, "set CERVICYTE_MAIL_FROM")
        self._sender = normal_address(mail_from) if mail_from else ""
        self._timeout_s = timeout_s
        self._queue: queue.Queue[Message] = queue.Queue(_WAITING)
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def available(self) -> bool:
        """True when a mail server is set up."""
        return self._server is not None

    def send(self, message: Message) -> None:
        """Send now.

        Raises
        ------
        MailError : no mail is set up, or the server cannot be reached or refuses
        UsageError : the address or the subject holds what may not stand in a header
        """
        if self._server is None:
            raise MailError("no mail is set up", None, "set CERVICYTE_SMTP_URL and CERVICYTE_MAIL_FROM")
        mail = self._compose(message)
        try:
            with self._connect(self._server) as smtp:
                if self._server.username:
                    smtp.login(unquote(self._server.username), unquote(self._server.password or ""))
                smtp.send_message(mail, self._sender, [message.to])
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            raise MailError(
                "the mail was not sent", f"{self._server.hostname}: {reason}", "look at the mail server"
            ) from (error)

    def post(self, message: Message) -> None:
        """Send soon, in the background; a failure, and a message for which there is no room, is logged.

        Raises
        ------
        MailError : no mail is set up
        """
        if self._server is None:
            raise MailError("no mail is set up", None, "set CERVICYTE_SMTP_URL and CERVICYTE_MAIL_FROM")
        with self._lock:
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="mail", daemon=True)
                self._worker.start()
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            # No error: it would tell who asks that there was a mail to send.
            _log.error("mail %r was not sent: %d others wait for the server", message.subject, _WAITING)

    def wait(self) -> None:
        """Until all that was posted has been sent or has failed."""
        self._queue.join()

    def _work(self) -> None:
        while True:
            message = self._queue.get()
            try:
                self.send(message)
            except CervicyteError as error:
                _log.error("mail %r: %s", message.subject, error.one_line)
            finally:
                self._queue.task_done()

    def _compose(self, message: Message) -> EmailMessage:
        if normal_address(message.to) != message.to:
            raise UsageError("not an e-mail address", repr(message.to[:100]), "write it as name@example.org")
        if not message.subject.isprintable():
            raise UsageError("the subject holds a line break", repr(message.subject[:100]), "write one line")
        mail = EmailMessage(policy=SMTP)
        mail["From"] = Address("cervicyte", addr_spec=self._sender)
        mail["To"] = Address(addr_spec=message.to)
        mail["Subject"] = message.subject
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=self._sender.split("@")[1])
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

    def _connect(self, server: SplitResult) -> smtplib.SMTP:
        host, secure = server.hostname or "", ssl.create_default_context()
        if server.scheme == "smtps":
            return smtplib.SMTP_SSL(host, server.port or 465, timeout=self._timeout_s, context=secure)
        smtp = smtplib.SMTP(host, server.port or 587, timeout=self._timeout_s)
        try:
            smtp.ehlo()
            if smtp.has_extn("starttls"):
                smtp.starttls(context=secure)
            elif server.username:  # the password is not sent in the clear
                raise smtplib.SMTPNotSupportedError("the server offers no STARTTLS and a password is set")
        except BaseException:
            smtp.close()
            raise
        return smtp


def _server(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("smtp", "smtps") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:  # the address may hold a password, so it is not shown
        raise UsageError(
            "the address of the mail server cannot be used",
            None,
            "write it as smtp://USER:PASSWORD@HOST:PORT or smtps://",
        )
    return parts
