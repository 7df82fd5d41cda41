"""Turn images into feature vectors: streaming extraction, its cache, activations for fine-tuning."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
