from .files import (
    atomic_write as atomic_write,
    printable as printable,
    sha256_file as sha256_file,
    write_json as write_json,
)
from .progress import say as say, track as track
from .versions import own_version as own_version, version_of as version_of
