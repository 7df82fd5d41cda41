"""Keras, kept apart so that it can be left out: exporting networks, training their last blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
