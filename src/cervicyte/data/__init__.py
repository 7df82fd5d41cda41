"""The table of cells, its label systems and splits, and what a person sees of a data set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
