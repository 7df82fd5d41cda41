"""Check a data set before anybody trains on it: copies, artefacts, mixed labels, leakage."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
