"""The tables of the web application, as SQLAlchemy classes; `cervicyte.web.migrations` makes them.

Times are aware and in UTC. What appears in an address of the site (users, cases, images, tokens, codes) has an
unguessable id of 32 hexadecimal digits; what is only ever listed is numbered. Secrets are stored as hashes.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

#: What a user may be; what each may do is in `cervicyte.web.accounts.users`.
ROLES = ("reader", "reviewer", "administrator")


def new_id() -> str:
    """An id that cannot be guessed: 122 random bits as 32 hexadecimal digits."""
    return uuid.uuid4().hex


def now() -> datetime:
    """The time, aware and in UTC; functions take it as a clock, so that tests can set it."""
    return datetime.now(UTC)


class Utc(TypeDecorator[datetime]):
    """A moment, aware and in UTC in Python on every database; SQLite itself keeps no time zone.

    Raises
    ------
    ValueError : the moment has no time zone, so nobody knows which it is
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone: {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: 64 bits on PostgreSQL; on SQLite only a plain INTEGER counts by itself, and it has 64 bits too.
Number = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON(none_as_null=True)


class Base(DeclarativeBase):
    """What all tables share: names of constraints, so that a later migration can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=column)


class User(Base):
    """A person. Never deleted, since records name them; ``active`` says whether they may come in.

    ``password_hash`` is empty until the person has set a password. ``totp_secret`` is the authenticator's, in Base32,
    empty where there is none; ``totp_pending`` one that was shown and not confirmed yet; ``totp_step`` the last
    30-second step whose code was used, so that no code counts twice.
    """

    __tablename__ = "users"
    __table_args__ = (_one_of("role", ROLES),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(20))
    password_hash: Mapped[str] = mapped_column(Text, default="")
    totp_secret: Mapped[str] = mapped_column(String(64), default="")
    totp_pending: Mapped[str] = mapped_column(String(64), default="")
    totp_step: Mapped[int | None] = mapped_column(Number)
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Utc)
    last_sign_in_at: Mapped[datetime | None] = mapped_column(Utc)


class UserSession(Base):
    """A sign-in that lasts. ``id`` is the SHA-256 of the cookie's token, so that a stolen table opens nothing."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Utc)
    seen_at: Mapped[datetime] = mapped_column(Utc)
    expires_at: Mapped[datetime] = mapped_column(Utc, index=True)


class Token(Base):
    """A key of the API; only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(Utc)
    used_at: Mapped[datetime | None] = mapped_column(Utc)
    expires_at: Mapped[datetime | None] = mapped_column(Utc)
    revoked_at: Mapped[datetime | None] = mapped_column(Utc)


class Code(Base):
    """Something that opens one door once: a link or a typed code; only its SHA-256 is kept.

    ``purpose`` is setup, invitation, registration, reset or sign-in.
    """

    __tablename__ = "codes"
    __table_args__ = (Index(None, "purpose", "email"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    purpose: Mapped[str] = mapped_column(String(20))
    email: Mapped[str] = mapped_column(String(254), default="")
    role: Mapped[str] = mapped_column(String(20), default="")
    issued_by: Mapped[str] = mapped_column(String(254), default="")
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(Utc)
    expires_at: Mapped[datetime] = mapped_column(Utc, index=True)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    used_at: Mapped[datetime | None] = mapped_column(Utc)


class Attempt(Base):
    """Something that is counted within a window of time; see `cervicyte.web.base.rate_limits`."""

    __tablename__ = "attempts"
    __table_args__ = (Index(None, "kind", "subject", "at"),)

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(254))
    at: Mapped[datetime] = mapped_column(Utc, index=True)


class Case(Base):
    """A specimen: what is read together. ``number`` is the short one that people say to each other."""

    __tablename__ = "cases"
    __table_args__ = (_one_of("state", ("open", "signed")),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    number: Mapped[str] = mapped_column(String(20), unique=True)
    accession: Mapped[str] = mapped_column(String(100), default="", index=True)
    notes: Mapped[str] = mapped_column(Text, default="")
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(Utc, index=True)
    state: Mapped[str] = mapped_column(String(10), default="open")
    second_reader_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"), index=True)
    blinded: Mapped[bool] = mapped_column(default=True)


class Image(Base):
    """A picture of a case; its bytes lie in the image store under ``sha256``. ``size`` is in bytes, the sides in
    pixels.

    ``place`` is the archive and the folders in it that the picture came from, empty for a file by itself.
    """

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("case_id", "position"),
        _one_of("state", ("waiting", "done", "failed")),
        Index(None, "state", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(200))
    place: Mapped[str] = mapped_column(String(200), default="")
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    media_type: Mapped[str] = mapped_column(String(40))
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Number)
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    reason: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(Utc)


class Upload(Base):
    """An upload that was taken whole, by the key its sender gave it: sent again, it gets the same answer."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("case_id", "user_id", "key"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    key: Mapped[str] = mapped_column(String(100))
    receipt: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Utc, index=True)


class PredictionRow(Base):
    """What one model said of one image; a new model adds a row and changes none.

    ``probabilities`` is {class: probability}, ``votes`` a list of members' answers, ``morphology`` {name: value},
    ``limits`` the model's operating point and band as `cervicyte.decision.calibration.DecisionLimits` writes them,
    ``disagreement`` that of the votes.
    """

    __tablename__ = "predictions"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    image_id: Mapped[str] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    model_sha256: Mapped[str] = mapped_column(String(64), index=True)
    model_name: Mapped[str] = mapped_column(String(100))
    label: Mapped[str] = mapped_column(String(100))
    bethesda: Mapped[str] = mapped_column(String(20), default="")
    p_abnormal: Mapped[float | None]
    operating_point: Mapped[float | None]
    uncertain: Mapped[bool] = mapped_column(default=False)
    quality: Mapped[str] = mapped_column(String(100), default="")
    probabilities: Mapped[dict[str, Any] | None] = mapped_column(Json)
    votes: Mapped[list[Any] | None] = mapped_column(Json)
    disagreement: Mapped[float | None]
    limits: Mapped[dict[str, Any] | None] = mapped_column(Json)
    morphology: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Utc, index=True)


class VerdictRow(Base):
    """What a person said of an image. Rows are only added; of one reader and reading the newest counts.

    ``reading`` is "settled" where a reviewer decided between two readers. ``verdict`` is empty where the reader took
    the last one back. ``agrees`` compares with the prediction that there was then, ``prediction_id``.
    """

    __tablename__ = "reviews"
    __table_args__ = (_one_of("reading", ("first", "second", "settled")), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    image_id: Mapped[str] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    reader_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    reading: Mapped[str] = mapped_column(String(10))
    verdict: Mapped[str] = mapped_column(String(100))
    agrees: Mapped[bool | None]
    prediction_id: Mapped[int | None] = mapped_column(ForeignKey("predictions.id", ondelete="SET NULL"), index=True)
    comment: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(Utc, index=True)


class Report(Base):
    """A signed statement on a case; an amendment is a new version with its reason, nothing is overwritten."""

    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("case_id", "version"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column(Integer)
    model_sha256: Mapped[str] = mapped_column(String(64))
    operating_point: Mapped[float | None]
    body: Mapped[dict[str, Any]] = mapped_column(Json)
    sha256: Mapped[str] = mapped_column(String(64))
    signed_by: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    signed_at: Mapped[datetime] = mapped_column(Utc)
    reason: Mapped[str] = mapped_column(Text, default="")


class CompletedReading(Base):
    """A blinded reading was complete: both readers had decided every cell. A picture that comes later can make it so
    again, which adds a row.

    ``last_verdict_id`` is the newest verdict on the case then, 0 where there was none: it and those before it stand.
    """

    __tablename__ = "completed_readings"

    id: Mapped[int] = mapped_column(Number, primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), index=True)
    last_verdict_id: Mapped[int] = mapped_column(Number)


class RetentionPolicy(Base):
    """How many days signed cases are kept, 0 for always, None where no administrator has set it; one row, always."""

    __tablename__ = "retention_policy"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, default=1)
    days: Mapped[int | None] = mapped_column(Integer)


class AuditRow(Base):
    """One thing that was done; written by `cervicyte.web.base.audit_log` alone. ``id`` counts from 1 without a gap."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(Utc, index=True)
    actor: Mapped[str] = mapped_column(String(254), index=True)
    action: Mapped[str] = mapped_column(String(60), index=True)
    subject: Mapped[str] = mapped_column(String(500), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """How many rows the audit log has and the hash of the last; one row. A tail that was cut off shows here."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, default=1)
    rows: Mapped[int] = mapped_column(Number)
    hash: Mapped[str] = mapped_column(String(64))
