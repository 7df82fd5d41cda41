"""Recipes: how a model is made, as small TOML files that are listed, read, checked and stored with the run."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from cervicyte.errors import UsageError
from cervicyte.filters import parse_chain
from cervicyte.images import FITS
from cervicyte.orientations import COUNTS
from cervicyte.taxonomy import get_map


@dataclass(frozen=True)
class Recipe:
    """One way to make a model: features of one backbone, StandardScaler and logistic regression.

    Attributes
    ----------
    name : what it is called
    description : one sentence
    backbone : a name of the registry, or onnx:FILE
    preprocess : for onnx:FILE, the preprocessing that the network was trained with; else empty
    layer : name of the Keras layer to tap; empty for the last
    orientations : flips and turns to average over, one of orientations.COUNTS
    size : side of the network's input in pixels; 0 takes the backbone's own
    fit : how other shapes become a square, one of images.FITS
    filters : names of the filter chain, applied before resizing
    target : "native" (the data set's own classes), "bethesda" or "binary"
    maps : label maps to prefer where the data set has several to the target
    C : inverse regularisation strength; 0 chooses it by inner folds
    sensitivity : the operating point is set for this sensitivity for abnormal cells
    max_risk : share of errors among the answered cells that the uncertain band is set for
    copies : augmented copies of each cell under the as-published protocol
    """

    name: str
    description: str = ""
    backbone: str = "morphology"
    preprocess: str = ""
    layer: str = ""
    orientations: int = 1
    size: int = 0
    fit: str = "stretch"
    filters: tuple[str, ...] = ()
    target: str = "native"
    maps: tuple[str, ...] = ()
    C: float = 0.0
    sensitivity: float = 0.95
    max_risk: float = 0.05
    copies: int = 10

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("fit", self.fit, FITS),
            ("target", self.target, ("native", "bethesda", "binary")),
            ("orientations", self.orientations, COUNTS),
        ):
            if value not in allowed:
                raise UsageError(f"recipe: {name} must be one of {', '.join(map(str, allowed))}", repr(value))
        for name, number, low, high in (
            ("sensitivity", self.sensitivity, 0.5, 1.0),
            ("max_risk", self.max_risk, 0.0, 0.5),
            ("C", self.C, 0.0, 1e6),
            ("copies", self.copies, 1, 100),
            ("size", self.size, 0, 1024),
        ):
            if not low <= number <= high:
                raise UsageError(f"recipe: {name} must lie between {low} and {high}", number)
        parse_chain(",".join(self.filters))
        for name in self.maps:
            get_map(name)

    def changed(self, **options: Any) -> Recipe:
        """The recipe with the options that are not None in place of its own values."""
        return replace(self, **{k: v for k, v in options.items() if v is not None})

    def to_json(self) -> dict[str, Any]:
        """A plain form, stored with the run."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def shipped() -> tuple[str, ...]:
    """Names of the recipes that ship, sorted."""
    folder = resources.files("cervicyte") / "recipe_files"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe that ships, by name, or a TOML file of the user's.

    Raises
    ------
    UsageError : no such recipe, not TOML, an unknown key, or a value that cannot be used

    >>> load_recipe("morphology-lr").backbone
    'morphology'
    """
    text_name = str(name)
    if text_name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("cannot read the recipe", text_name, str(error)) from error
        stem = Path(name).stem
    elif text_name in shipped():
        text = (resources.files("cervicyte") / "recipe_files" / f"{text_name}.toml").read_text(encoding="utf-8")
        stem = text_name
    else:
        near = difflib.get_close_matches(text_name, shipped(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError("unknown recipe", repr(text_name), f"{hint}there are: {', '.join(shipped())}, or FILE.toml")
    try:
        return _parse(stem, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError("the recipe is not valid TOML", text_name, str(error)) from error


def _parse(name: str, table: Mapping[str, Any]) -> Recipe:
    by_type: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    kinds = {f.name: by_type.get(str(f.type), (list,)) for f in fields(Recipe)}
    for key, value in table.items():
        if key not in kinds or key == "name":
            near = difflib.get_close_matches(key, kinds, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError("unknown key in the recipe", repr(key), f"{hint}keys: {', '.join(list(kinds)[1:])}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise UsageError(f"recipe: {key} has the wrong kind of value", repr(value))
    values: dict[str, Any] = {k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in table.items()}
    return Recipe(name, **values)
