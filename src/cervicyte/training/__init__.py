"""How a model is made: recipes, members, fitting, fine-tuning, bundling."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
