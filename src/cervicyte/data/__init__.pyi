from .cells import Cell as Cell
from .cells import CellTable as CellTable
from .labels import (
    BETHESDA as BETHESDA,
)
from .labels import (
    MAPS as MAPS,
)
from .labels import (
    LabelMap as LabelMap,
)
from .labels import (
    LabelSystem as LabelSystem,
)
from .labels import (
    find_map as find_map,
)
from .labels import (
    get_map as get_map,
)
from .splits import PROTOCOLS as PROTOCOLS
from .splits import Folds as Folds
from .splits import Protocol as Protocol
from .splits import get_protocol as get_protocol
