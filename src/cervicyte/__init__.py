"""cervicyte: classify cervical cell images, with numbers that hold on the next slide.

>>> import cervicyte
>>> cells = cervicyte.load("herlev/")                                     # doctest: +SKIP
>>> run = cervicyte.train(cells, "run", "resnet50-lr", weights="weights/")  # doctest: +SKIP
>>> run.bundle.predict(["cell.png"])                                      # doctest: +SKIP
>>> test = cervicyte.evaluate(run.bundle, cervicyte.load("other/"), "test") # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from cervicyte.bundle.folder import Bundle
    from cervicyte.data.cells import CellTable
    from cervicyte.data.readers import load
    from cervicyte.errors import CervicyteError
    from cervicyte.runs.evaluate import evaluate
    from cervicyte.runs.train import train
    from cervicyte.training.recipes import Recipe

#: Public name and the module that holds it, imported when first used, so that `import cervicyte` is instant.
#: No module has the name of a public function: its import would hide the function.
_HOMES = {
    "Bundle": "bundle.folder",
    "CellTable": "data.cells",
    "CervicyteError": "errors",
    "Recipe": "training.recipes",
    "evaluate": "runs.evaluate",
    "load": "data.readers",
    "train": "runs.train",
}

__all__ = [
    "Bundle",
    "CellTable",
    "CervicyteError",
    "Recipe",
    "__version__",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("cervicyte.base.versions").own_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'cervicyte' has no attribute {name!r}")
    return getattr(import_module(f"cervicyte.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
