from .recipes import Recipe as Recipe
from .recipes import load_recipe as load_recipe
