"""Networks as graphs: the registry of backbones, the engine that runs them, our own network, quantising."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
