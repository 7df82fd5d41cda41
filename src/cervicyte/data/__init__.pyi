from .cells import Cell as Cell, CellTable as CellTable
from .labels import (
    BETHESDA as BETHESDA,
    MAPS as MAPS,
    LabelMap as LabelMap,
    LabelSystem as LabelSystem,
    find_map as find_map,
    get_map as get_map,
)
from .splits import PROTOCOLS as PROTOCOLS, Folds as Folds, Protocol as Protocol, get_protocol as get_protocol
