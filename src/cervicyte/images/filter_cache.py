"""A cache of the results of slow filters, by the content of the image, so that none is computed twice.

The most recent results stay in memory, so that the copies of one cell share one filtered image. All are on disk,
one file each, up to the limit CERVICYTE_FILTERED_CACHE_MB; those used longest ago are removed first.
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

#: Increase when the form of the files changes.
_FORMAT = 1
#: Most bytes of images in memory.
_MEMORY = 64 * 2**20
#: Share of the limit that old files are cut down to, so that not every new image has to make room again.
_SHARE_AFTER_CLEANUP = 0.9
#: Bytes of the checksum at the start of each file.
_DIGEST = 16
#: Number of locks. Two threads that need the same image share a lock, and the second finds it ready; others rarely
#: wait for each other.
_LOCKS = 256


class FilteredImages:
    """A cache of filtered images in one folder, which several threads and processes may share.

    Parameters
    ----------
    folder : the folder of the files; created when first needed
    limit : most bytes that the files may take; 0 writes none
    memory : most bytes of images in memory
    """

    def __init__(self, folder: Path, limit: int, memory: int = _MEMORY) -> None:
        self.folder = folder
        self.limit = limit
        self.memory = memory
        self._recent: OrderedDict[str, np.ndarray] = OrderedDict()
        self._recent_bytes = 0
        self._bytes_on_disk: int | None = None  # counted at the first write
        self._writing = limit > 0
        self._lock = threading.Lock()
        self._making = tuple(threading.Lock() for _ in range(_LOCKS))

    def get(self, image: np.ndarray, text: str, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return ``make(image)``, from the cache if it was made before.

        Parameters
        ----------
        image : uint8 (h, w, 3)
        text : the filter with everything that its result depends on
        make : the filter; returns uint8 of the same shape

        Notes
        -----
        A damaged file is made again. A disk that cannot be written to is reported once and stops nothing.
        """
        key = _key(image, text)
        with self._making[int(key[:2], 16) % _LOCKS]:
            filtered_image = self._remembered(key)
            if filtered_image is None:
                filtered_image = self._read(key, image.shape)
                if filtered_image is None:
                    filtered_image = make(image)
                    self._write(key, filtered_image)
                self._remember(key, filtered_image)
        return filtered_image.copy()  # so that the caller cannot change the cached one

    def _remembered(self, key: str) -> np.ndarray | None:
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
            return self._recent.get(key)

    def _remember(self, key: str, image: np.ndarray) -> None:
        with self._lock:
            self._recent[key] = image
            self._recent_bytes += image.nbytes
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
        image = cv2.imdecode(np.frombuffer(data, np.uint8, offset=_DIGEST), cv2.IMREAD_COLOR)
        if image is None or image.shape != shape:
            return None
        working_folder.used(path)
        return image

    def _write(self, key: str, image: np.ndarray) -> None:
        import cv2

        if not self._writing:
            return
        whole, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        data = encoded.tobytes()
        if not whole or len(data) + _DIGEST > self.limit * _SHARE_AFTER_CLEANUP:
            return
        try:
            with atomic_write(self._path(key), "wb") as stream:
                stream.write(_digest(data) + data)
            with self._lock:
                if self._bytes_on_disk is None:
                    self._bytes_on_disk = working_folder.size(self.folder)
                else:
                    self._bytes_on_disk += len(data) + _DIGEST
                if self._bytes_on_disk > self.limit:
                    room = int(self.limit * _SHARE_AFTER_CLEANUP)
                    self._bytes_on_disk = working_folder.remove_oldest(self.folder, room)
        except (StorageError, OSError) as error:
            reason = error.one_line if isinstance(error, StorageError) else str(error)
            self._writing = False
            say(f"filtered pictures are not kept on disk from here on: {reason}")


def filtered(image: np.ndarray, text: str, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return ``make(image)`` from the cache that the settings name; parameters as `FilteredImages.get`."""
    return _shared_cache(settings.get_path("cache_dir") / "filtered", settings.get_int("filtered_cache_mb")).get(
        image, text, make
    )


@functools.lru_cache(maxsize=4)
def _shared_cache(folder: Path, megabytes: int) -> FilteredImages:
    return FilteredImages(folder, megabytes * 10**6)


def _key(image: np.ndarray, text: str) -> str:
    import cv2

    about = repr((_FORMAT, image.shape, text, cv2.__version__)).encode()
    return hashlib.sha256(about + np.ascontiguousarray(image).data).hexdigest()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
