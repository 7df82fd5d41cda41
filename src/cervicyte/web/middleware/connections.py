"""How requests come in and answers go out: nobody holds a place for ever, and that one asks too much is told in words.

Waitress closes a connection that is silent, but lets one go on for ever that sends a byte now and then, and waits for
ever, a thread with it, for one that reads nothing of its answer; and what is too large it answers itself, in another
shape than all other errors have.
"""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.utilities import RequestEntityTooLarge

#: Seconds that a request may take to come in, and how many of its bytes add one more. No line over which anyone sends
#: pictures is slower.
GRACE_S, SLOWEST = 60.0, 1024


class Parser(HTTPRequestParser):
    """A request as it comes in, and how long that takes.

    One with a body that is too large goes to the application, which is told its length and so refuses it. The rest of
    the body is not read, and the connection ends with the answer.
    """

    error: Any = None
    _since = 0.0

    def received(self, data: bytes) -> int:
        """Take bytes of a request, and return how many of them belong to it."""
        if self.header_bytes_received <= len(b"\r\n"):  # an empty line may come with the request before, long ago
            self.start_clock()
        count: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            self.error = None
            self.headers["CONTENT_LENGTH"] = str(max(self.content_length, self.body_bytes_received))
            self.headers["CONNECTION"] = "close"
        if self.completed:  # told to continue all the same, it would be taken for one that only begins
            self.expect_continue = False
        return count

    def start_clock(self) -> None:
        """Count no time before this moment."""
        self._since = time.monotonic()

    @property
    def too_slow(self) -> bool:
        """Whether it has taken longer to come in than `GRACE_S` and `SLOWEST` say."""
        count = self.header_bytes_received + self.body_bytes_received
        return bool(time.monotonic() - self._since > GRACE_S + count / SLOWEST)


class Channel(HTTPChannel):
    """A connection that ends where a request comes in too slowly, or nothing of an answer is read any more."""

    parser_class = Parser

    def readable(self) -> bool:
        """Whether to take more of a request; the time in which that is not so is not the sender's."""
        readable = bool(super().readable())
        if not readable and self.request is not None:
            self.request.start_clock()
        return readable

    def received(self, data: bytes) -> bool:
        """Take bytes as they come; False where they are not wanted any more."""
        wanted = bool(super().received(data))
        if self.request is not None and self.request.too_slow:
            self.will_close = True
        return wanted

    def writable(self) -> bool:
        """Whether there is something to send; a connection that is to end is ended here.

        Waitress would first wait until the other side takes something, which it need never do.
        """
        if self.will_close or self._is_unread():
            self.handle_close()  # and the thread that waits for room goes on
            return False
        return bool(super().writable())

    def handle_write(self) -> None:
        """Send what waits to be sent.

        A thread that sends at this moment is waited for: asked again and again, as waitress would, it takes longer.
        """
        with self.outbuf_lock:
            super().handle_write()

    def _is_unread(self) -> bool:
        """Whether something waits to be sent of which nothing was taken for as long as silence is borne."""
        if not self.total_outbufs_len:
            return False
        with self.outbuf_lock:  # under which a thread adds and sends: what it adds now does not wait yet
            if self._silent_for() > self.adj.channel_timeout / 2:  # well before waitress ends it for its silence
                # Called writable is only what has much room: who reads slowly makes a little, and that counts.
                self._flush_exception(self._flush_some_if_lockable, do_close=False)
            return bool(self._silent_for() > self.adj.channel_timeout)

    def _silent_for(self) -> float:
        """Seconds since anything was read or sent."""
        return float(time.time() - self.last_activity)
