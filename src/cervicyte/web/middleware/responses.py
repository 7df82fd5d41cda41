"""Pictures and files as answers."""

from __future__ import annotations

from urllib.parse import quote

from flask import Response, request

from cervicyte.web.cases.pictures import Picture
from cervicyte.web.reports.spreadsheet import Download


def picture(image: Picture) -> Response:
    """A picture as an answer; its address always shows the same, so that the browser may keep it for a while."""
    answer = Response(image.data, mimetype=image.media_type)
    answer.set_etag(image.etag)
    answer.cache_control.private = True
    answer.cache_control.max_age = 3600
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer.make_conditional(request)
    return answer


def download(file: Download) -> Response:
    """A file to be saved, sent as it is made."""
    answer = Response(iter(file.chunks), mimetype=file.media_type)
    answer.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file.name)}"
    return answer
