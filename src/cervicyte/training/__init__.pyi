from .parts import Distil as Distil, Finetune as Finetune, Linear as Linear
from .recipes import Recipe as Recipe, load_recipe as load_recipe
