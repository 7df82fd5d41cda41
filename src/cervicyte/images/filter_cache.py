"""Pictures that slow filters made, kept by their content: what took a tenth of a second is not computed twice.

The last few lie in memory, so that the copies of one cell share one filtered picture; the others on disk,
one file each, up to the bound CERVICYTE_FILTERED_CACHE_MB, from which those used longest ago go first.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cervicyte import settings
from cervicyte.base import working_folder
from cervicyte.base.files import atomic_write
from cervicyte.base.progress import say
from cervicyte.errors import StorageError

#: Raised when the files' form changes.
_FORMAT = 1
#: Bytes of pictures in memory.
_MEMORY = 64 * 2**20
#: Share of the bound that is left after room was made, so that not every new picture makes room again.
_LEFT = 0.9
#: Bytes of the checksum in front of each file.
_DIGEST = 16
#: Two threads that want one picture share a lock, and the second finds it made; others seldom meet.
_LOCKS = 256


class FilteredPictures:
    """Filtered pictures in one folder; several threads and processes may share it.

    Parameters
    ----------
    folder : where the files lie; made when first needed
    limit : most bytes that the files may take; 0 keeps none
    memory : most bytes of pictures kept in memory
    """

    def __init__(self, folder: Path, limit: int, memory: int = _MEMORY) -> None:
        self.folder = folder
        self.limit = limit
        self.memory = memory
        self._recent: OrderedDict[str, np.ndarray] = OrderedDict()
        self._recent_bytes = 0
        self._held: int | None = None  # bytes on disk, counted when first written to
        self._writing = limit > 0
        self._lock = threading.Lock()
        self._making = tuple(threading.Lock() for _ in range(_LOCKS))

    def get(self, image: np.ndarray, text: str, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What ``make(image)`` gives, from here if it was made before.

        Parameters
        ----------
        image : uint8 (h, w, 3)
        text : names the filter with all that its result depends on
        make : the filter; uint8 of the same shape

        Notes
        -----
        A damaged file is made again. A disk that cannot be written to is told once, and stops nothing.
        """
        key = _key(image, text)
        with self._making[int(key[:2], 16) % _LOCKS]:
            found = self._remembered(key)
            if found is None:
                found = self._read(key, image.shape)
                if found is None:
                    found = make(image)
                    self._write(key, found)
                self._remember(key, found)
        return found.copy()  # so that nobody changes what is kept

    def _remembered(self, key: str) -> np.ndarray | None:
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
            return self._recent.get(key)

    def _remember(self, key: str, picture: np.ndarray) -> None:
        with self._lock:
            self._recent[key] = picture
            self._recent_bytes += picture.nbytes
            while self._recent and self._recent_bytes > self.memory:
                self._recent_bytes -= self._recent.popitem(last=False)[1].nbytes

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.png"

    def _read(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        import cv2

        if not self.limit:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if data[:_DIGEST] != _digest(data[_DIGEST:]):
            return None
        picture = cv2.imdecode(np.frombuffer(data, np.uint8, offset=_DIGEST), cv2.IMREAD_COLOR)
        if picture is None or picture.shape != shape:
            return None
        working_folder.used(path)
        return picture

    def _write(self, key: str, picture: np.ndarray) -> None:
        import cv2

        if not self._writing:
            return
        whole, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        data = encoded.tobytes()
        if not whole or len(data) + _DIGEST > self.limit * _LEFT:
            return
        try:
            with atomic_write(self._path(key), "wb") as stream:
                stream.write(_digest(data) + data)
            with self._lock:
                self._held = (
                    working_folder.size(self.folder) if self._held is None else self._held + len(data) + _DIGEST
                )
                if self._held > self.limit:
                    self._held = working_folder.remove_oldest(self.folder, int(self.limit * _LEFT))
        except (StorageError, OSError) as error:
            reason = error.one_line if isinstance(error, StorageError) else str(error)
            self._writing = False
            say(f"filtered pictures are not kept on disk from here on: {reason}")


def filtered(image: np.ndarray, text: str, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`FilteredPictures.get` of the folder and the bound in the settings."""
    return _shared(settings.get_path("cache_dir") / "filtered", settings.get_int("filtered_cache_mb")).get(
        image, text, make
    )


@functools.lru_cache(maxsize=4)
def _shared(folder: Path, megabytes: int) -> FilteredPictures:
    return FilteredPictures(folder, megabytes * 10**6)


def _key(image: np.ndarray, text: str) -> str:
    import cv2

    named = repr((_FORMAT, image.shape, text, cv2.__version__)).encode()
    return hashlib.sha256(named + np.ascontiguousarray(image).data).hexdigest()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
