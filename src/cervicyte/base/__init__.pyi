from .files import (
    atomic_write as atomic_write,
)
from .files import (
    printable as printable,
)
from .files import (
    sha256_file as sha256_file,
)
from .files import (
    write_json as write_json,
)
from .progress import say as say
from .progress import track as track
from .versions import own_version as own_version
from .versions import version_of as version_of
