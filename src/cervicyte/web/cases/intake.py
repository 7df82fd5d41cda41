"""Taking pictures into a case: bytes into the image store first, then all rows of the request in one transaction.

Killed before that transaction ends, nothing was taken and nothing was said to be; the same upload sent again then
takes all, and what already lies in the image store is not written twice. Killed after it, the same key gets
the same receipt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from cervicyte.errors import UsageError
from cervicyte.web.accounts.users import may
from cervicyte.web.base import rate_limits
from cervicyte.web.base.database import change, lock
from cervicyte.web.base.schema import Case, Image, Upload, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases.permissions import check, find, hold
from cervicyte.web.cases.uploads import Accepted, PassedOver, Readable, Refused, UploadLimits, accept
from cervicyte.web.errors import BusyError, DeniedError

#: The name of the lock that whoever adds or removes pictures takes, so that no file goes while a row for it comes.
LOCK = "pictures"

_KEY = re.compile(r"[\x21-\x7e]{1,100}")


@dataclass(frozen=True)
class Receipt:
    """What became of an upload.

    Attributes
    ----------
    accepted : pictures that now belong to the case
    passed_over : folders, and files that systems leave in archives
    refused : (name, reason) of each file that could not be used
    """

    accepted: int = 0
    passed_over: int = 0
    refused: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What the page's script and the API are answered."""
        refused = [{"name": name, "reason": reason} for name, reason in self.refused]
        return {"accepted": self.accepted, "passed_over": self.passed_over, "refused": refused}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Receipt:
        """What `to_json` wrote."""
        refused = tuple((str(row["name"]), str(row["reason"])) for row in value["refused"])
        return cls(int(value["accepted"]), int(value["passed_over"]), refused)


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image whose bytes are in the image store and that has no row yet; names are those of `Image`."""

    name: str
    place: str
    sha256: str
    media_type: str
    width: int
    height: int
    size: int


def upload(
    site: Site,
    user: User,
    number: str,
    files: Iterable[tuple[str, bytes | Readable]],
    key: str = "",
    allowed: UploadLimits | None = None,
    folder: Path | None = None,
) -> Receipt:
    """Take files, each a picture or a ZIP of them, into a case; what is bad is refused by itself.

    When this returns, all that it says was accepted is stored for good and waits for the model. When it raises,
    nothing of the request was taken.

    Parameters
    ----------
    files : (name as the sender calls it, bytes or a stream)
    key : the request's Idempotency-Key, or empty; one that was answered before gets that answer, and no file is read
    allowed, folder : see `cervicyte.web.cases.uploads.accept`

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`; what was answered is answered
        again in any state of the case
    UsageError : the key is not 1 to 100 printable ASCII characters
    TooManyRequestsError : more uploads than a user may send in a while
    StorageError : the disk or the database is full or busy
    BusyError : a case with the same picture was deleted at this moment
    """
    if key and not _KEY.fullmatch(key):
        raise UsageError("the Idempotency-Key cannot be used", None, "send 1 to 100 visible ASCII characters")
    with site.database.read() as session:
        case = find(session, user, number)
        if (before := _answered(session, case, user, key)) is not None:
            return before
        check(case, user, "upload")
    images, receipt = read_in(site, user, files, allowed, folder)
    with site.database.write() as session:
        case = hold(session, user, number, "see")
        lock(session, LOCK)
        if (before := _answered(session, case, user, key)) is not None:
            return before  # the same request, sent again while it was at work
        check(case, user, "upload")  # it may have been signed meanwhile
        add(session, site, user, case, images, receipt, key)
        note_uploaded(session, site, user, case, receipt)
    return receipt


def read_in(
    site: Site,
    user: User,
    files: Iterable[tuple[str, bytes | Readable]],
    allowed: UploadLimits | None = None,
    folder: Path | None = None,
) -> tuple[list[StoredImage], Receipt]:
    """Look at files and put the bytes of the pictures among them into the image store; `add` gives them their rows.

    Raises
    ------
    TooManyRequestsError, StorageError : as `upload`
    """
    rate_limits.take(site.database, rate_limits.UPLOAD_BY_USER, user.id, site.clock())
    images: list[StoredImage] = []
    refused: list[tuple[str, str]] = []
    passed_over = 0
    for name, source in files:
        for file in accept(name, source, allowed, folder):
            if isinstance(file, Accepted):
                site.image_store.put(file.data)
                images.append(_stored(file))
            elif isinstance(file, Refused):
                refused.append((f"{file.place}/{file.name}" if file.place else file.name, file.reason))
            elif isinstance(file, PassedOver):
                passed_over += file.folders + file.litter
    return images, Receipt(len(images), passed_over, tuple(refused))


def add(
    session: Session,
    site: Site,
    user: User,
    case: Case,
    images: Sequence[StoredImage],
    receipt: Receipt,
    key: str = "",
) -> None:
    """Rows for what `read_in` kept, and the receipt under its key, in a transaction that holds the case and `LOCK`.

    `note_uploaded` is to follow.

    Raises
    ------
    BusyError : as `upload`
    """
    if not all(site.image_store.has(image.sha256) for image in images):
        raise BusyError("another case with the same picture was deleted at this moment", None)
    last = session.scalar(select(func.max(Image.position)).where(Image.case_id == case.id)) or 0
    at = site.clock()
    session.add_all(
        Image(case_id=case.id, position=last + i, state="waiting", reason="", created_at=at, **asdict(image))
        for i, image in enumerate(images, 1)
    )
    if key:
        session.add(Upload(case_id=case.id, user_id=user.id, key=key, receipt=receipt.to_json(), created_at=at))


def note_uploaded(session: Session, site: Site, user: User, case: Case, receipt: Receipt) -> None:
    """Write into the audit log what became of an upload, once the transaction has stored all else."""
    detail = {"accepted": receipt.accepted, "refused": len(receipt.refused)}
    site.audit_log.append(session, user.email, "images.uploaded", case.number, detail, site.clock())


def retry(site: Site, user: User, number: str) -> int:
    """Let the pictures of a case that failed wait for the model again; how many they are.

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`
    """
    with site.database.write() as session:
        case = hold(session, user, number, "edit")
        count = _wait_again(session, Image.case_id == case.id)
        if count:
            site.audit_log.append(session, user.email, "images.retried", case.number, {"images": count}, site.clock())
        return count


def retry_all(site: Site, user: User) -> int:
    """The same for all cases.

    Raises
    ------
    DeniedError : the user is no administrator
    """
    if not may(user, "administer"):
        raise DeniedError("you may not do this", None, "ask an administrator")
    with site.database.write() as session:
        count = _wait_again(session)
        if count:
            site.audit_log.append(session, user.email, "images.retried", "", {"images": count}, site.clock())
        return count


def _answered(session: Session, case: Case, user: User, key: str) -> Receipt | None:
    if not key:
        return None
    same = select(Upload.receipt).where(Upload.case_id == case.id, Upload.user_id == user.id, Upload.key == key)
    receipt = session.scalar(same)
    return None if receipt is None else Receipt.from_json(receipt)


def _stored(accepted: Accepted) -> StoredImage:
    return StoredImage(
        name=accepted.name,
        place=accepted.place,
        sha256=accepted.sha256,
        media_type=accepted.media_type,
        width=accepted.width,
        height=accepted.height,
        size=len(accepted.data),
    )


def _wait_again(session: Session, *conditions: Any) -> int:
    failed = select(Image.id).where(Image.state == "failed", *conditions).order_by(Image.id).with_for_update()
    again = update(Image).where(Image.id.in_(failed)).values(state="waiting", reason="")
    return change(session, again)
