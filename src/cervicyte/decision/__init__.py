"""From features to a verdict: linear heads, calibration, the rules of ensembles, limits of quality."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
