from .registry import BACKBONES as BACKBONES
from .registry import Backbone as Backbone
from .registry import Weights as Weights
from .registry import get_backbone as get_backbone
from .runtime import Engine as Engine
