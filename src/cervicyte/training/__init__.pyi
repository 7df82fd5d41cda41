from .recipes import Recipe as Recipe, load_recipe as load_recipe
