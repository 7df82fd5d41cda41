"""The pictures themselves, for those who may see their case: as they came, as a browser can show them, and small."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from cervicyte.images import decoding
from cervicyte.web.base.schema import Image, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases.permissions import find_image

#: Sides of a small picture that may be asked for, in pixels.
_SIDES = (32, 640)


@dataclass(frozen=True)
class Picture:
    """Bytes to send; ``etag`` names what they are made from, and so stays the same as long as they do."""

    data: bytes = field(repr=False)
    media_type: str
    etag: str


def stored(site: Site, user: User, image_id: str) -> bytes:
    """A picture's bytes as they came, proved to be what was stored.

    Raises
    ------
    NotFoundError : no such picture, or the user may not see it
    MissingError, StorageError : it is not in the store any more, or damaged
    """
    return site.image_store.get(_row(site, user, image_id).sha256)


def original(site: Site, user: User, image_id: str) -> Picture:
    """A picture as the model sees it: its own bytes where browsers show them so, or else its pixels as PNG.

    Thus what is transparent lies on the white that the model was shown, whatever the colour of the page.

    Raises
    ------
    NotFoundError, MissingError, StorageError : as `stored`
    ImageError : it cannot be decoded
    """
    row = _row(site, user, image_id)
    data = site.image_store.get(row.sha256)
    if decoding.shown_alike(data, row.name):
        return Picture(data, row.media_type, row.sha256)
    return Picture(_encoded(data, row, None, "PNG"), "image/png", f"{row.sha256}-png")


def thumbnail(site: Site, user: User, image_id: str, side: int = 320) -> Picture:
    """A picture as a JPEG whose longer side is at most ``side`` pixels, and never larger than it was.

    Raises
    ------
    NotFoundError, MissingError, StorageError, ImageError : as `original`
    """
    side = min(max(side, _SIDES[0]), _SIDES[1])
    row = _row(site, user, image_id)
    data = site.image_store.get(row.sha256)
    return Picture(_encoded(data, row, side, "JPEG"), "image/jpeg", f"{row.sha256}-{side}")


def _row(site: Site, user: User, image_id: str) -> Image:
    with site.database.read() as session:
        return find_image(session, user, image_id)[0]


def _encoded(data: bytes, row: Image, side: int | None, kind: str) -> bytes:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(decoding.decode(data, row.name))
    if side is not None:
        picture.thumbnail((side, side), Pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85) if kind == "JPEG" else picture.save(buffer, kind)
    return buffer.getvalue()
