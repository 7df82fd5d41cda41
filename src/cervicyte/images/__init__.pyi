from .augmentation import (
    Augmentation as Augmentation,
)
from .augmentation import (
    augmented_copy as augmented_copy,
)
from .augmentation import (
    get_augmentation as get_augmentation,
)
from .decoding import Box as Box
from .decoding import Picture as Picture
from .descriptors import describe as describe
from .filters import parse_chain as parse_chain
from .morphology import MEASUREMENTS as MEASUREMENTS
