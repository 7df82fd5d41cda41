from .augmentation import (
    Augmentation as Augmentation,
    augmented_copy as augmented_copy,
    get_augmentation as get_augmentation,
)
from .decoding import Box as Box, CellImage as CellImage, decode as decode, load as load
from .descriptors import describe as describe
from .filters import parse_chain as parse_chain
from .morphology import MEASUREMENTS as MEASUREMENTS
