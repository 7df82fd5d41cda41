"""What speaks for an answer and against it: evidence, drawings, tests of faithfulness."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
