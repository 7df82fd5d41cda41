"""What must not be guessed: passwords, tokens, typed codes and the codes of an authenticator.

Of a password its Argon2id hash is kept, of a token or code its SHA-256, never the thing itself.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import pyotp
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from cervicyte.errors import UsageError

#: NIST SP 800-63B asks for 8 characters beside a second factor and 15 without; 12 for both, as most have none here.
SHORTEST, LONGEST = 12, 256
#: Those of 12 and more characters that lists of stolen passwords begin with.
_POPULAR = (
    "password1234", "password12345", "passwordpassword", "qwertyuiop12", "qwertyuiop123", "qwerty123456",
    "1234567890ab", "1q2w3e4r5t6y", "1qaz2wsx3edc", "administrator", "letmeinletmein", "iloveyou1234",
    "welcome12345", "changeme1234", "cervicytecervicyte",
)  # fmt: skip
#: No 0, 1, I, L, O and U: nobody must ask which it is.
_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_STEP_S = 30


@dataclass(frozen=True)
class Checked:
    """Whether a password is right, and its new hash where the stored one is weaker than today's."""

    ok: bool
    rehash: str | None = None


class Hasher:
    """Argon2id with the second recommended parameters of RFC 9106: 3 passes over 64 MiB in 4 lanes, 128-bit salt.

    At most ``at_once`` hashes are computed together, so that many who sign in at once cannot take all memory.
    """

    def __init__(self, time_cost: int = 3, memory_kib: int = 65536, parallelism: int = 4, at_once: int = 4) -> None:
        self._argon = PasswordHasher(time_cost, memory_kib, parallelism, hash_len=32, salt_len=16, type=Type.ID)
        self._turn = threading.BoundedSemaphore(at_once)
        # A hash of no password, as costly to check as a true one, for users who do not exist.
        salt, digest = (base64.b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (16, 32))
        self._nobody = f"$argon2id$v=19$m={memory_kib},t={time_cost},p={parallelism}${salt}${digest}"

    def hash(self, password: str) -> str:
        """The hash to store."""
        with self._turn:
            return self._argon.hash(_bytes(password))

    def check(self, stored: str | None, password: str) -> Checked:
        """Compare a password with a stored hash; None or "" (no such user, no password yet) takes as long and fails."""
        data = _bytes(password[:LONGEST])
        with self._turn:
            try:
                ok: bool = self._argon.verify(stored or self._nobody, data)
            except InvalidHashError:  # a damaged row must not answer sooner than others
                stored, ok = None, self._never(data)
            except VerificationError:
                ok = False
        if not ok or not stored or len(password) > LONGEST:
            return Checked(False)
        return Checked(True, self.hash(password) if self._argon.check_needs_rehash(stored) else None)

    def _never(self, data: bytes) -> bool:
        with contextlib.suppress(VerificationError):
            self._argon.verify(self._nobody, data)
        return False


def check_password(password: str, email: str = "") -> None:
    """Refuse a new password that is easily guessed.

    Raises
    ------
    UsageError : it is too short, too long, too even, a popular one, or made of the e-mail address
    """
    text = unicodedata.normalize("NFKC", password)
    plain = text.casefold()
    local = email.split("@")[0].casefold()
    todo = f"choose {SHORTEST} or more characters; several words that do not belong together are good"
    received = f"{len(text)} characters"  # never the password itself
    if len(text) < SHORTEST:
        raise UsageError("the password is too short", received, todo)
    if len(password) > LONGEST or len(text) > LONGEST:
        raise UsageError("the password is too long", received, f"choose {LONGEST} characters or fewer")
    if len(set(plain)) < 5 or plain in _POPULAR or _even(plain):
        raise UsageError("the password is one of the first that are guessed", received, todo)
    if len(local) >= 4 and local in plain:
        raise UsageError("the password holds the e-mail address", received, todo)


def new_token(prefix: str = "") -> str:
    """A secret of 256 random bits that fits an address or a header."""
    return prefix + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a token. One round is enough: 256 random bits cannot be tried out."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_code() -> str:
    """A code to be typed from a mail: 49 random bits, shown as two groups of five."""
    text = "".join(secrets.choice(_LETTERS) for _ in range(10))
    return f"{text[:5]}-{text[5:]}"


def code_digest(purpose: str, email: str, code: str) -> str:
    """What is stored of a typed code, however it was typed; bound to what and whom it is for.

    >>> code_digest("reset", "a@b.example", "abcde-23456") == code_digest("reset", "a@b.example", " ABCDE 23456")
    True
    """
    typed = "".join(c for c in code.upper() if c.isascii() and c.isalnum())
    return digest(f"{purpose} {email} {typed}")


def new_totp_secret() -> str:
    """160 random bits in Base32, as RFC 4226 recommends."""
    return pyotp.random_base32(32)


def totp_link(secret: str, email: str) -> str:
    """The otpauth link that an authenticator takes in."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name="cervicyte")


def totp_step(secret: str, code: str, at: datetime) -> int | None:
    """The 30-second step that a code belongs to: this one, the one before or the next (RFC 6238); None if to none.

    A step is to be accepted once, and only when it is later than the last one that was accepted.
    """
    typed = re.sub(r"[\s-]", "", code)
    if not re.fullmatch(r"[0-9]{6}", typed, re.ASCII):
        return None
    totp = pyotp.TOTP(secret)
    step = int(at.timestamp()) // _STEP_S
    right = [s for s in (step - 1, step, step + 1) if hmac.compare_digest(totp.generate_otp(s), typed)]
    return max(right, default=None)


def _even(text: str) -> bool:
    """True for 123456789012, abcdefghijkl and 121212121212: at most two different steps, or the same part repeated."""
    steps = {(ord(b) - ord(a)) % 10 if a.isdigit() and b.isdigit() else ord(b) - ord(a) for a, b in pairwise(text)}
    return len(steps) <= 2 or any(text == (text[:n] * len(text))[: len(text)] for n in range(1, 7))


def _bytes(password: str) -> bytes:
    # The same password typed on another keyboard may be other code points.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
