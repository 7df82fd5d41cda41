from .registry import BACKBONES as BACKBONES, Backbone as Backbone, Weights as Weights, get_backbone as get_backbone
from .runtime import Engine as Engine
