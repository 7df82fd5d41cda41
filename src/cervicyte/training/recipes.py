"""Recipes: how a model is made, as small TOML files that are listed, read, checked and stored with the run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from cervicyte.data.labels import get_map
from cervicyte.decision.ensemble import get_rule
from cervicyte.errors import UsageError, did_you_mean
from cervicyte.images.augmentation import get_augmentation
from cervicyte.images.decoding import FITS
from cervicyte.images.filters import parse_chain
from cervicyte.networks.orientations import COUNTS
from cervicyte.training.schedule import Schedule

#: Ways to make a member of a model from a network or measurements.
METHODS = ("linear", "finetune", "distil")

#: Which methods read a key of a part; every method reads those that are not named here.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "preprocess": ("linear",),
    "layer": ("linear",),
    "C": ("linear",),
    "orientations": ("linear", "finetune"),
    "augmentation": ("finetune",),
    "variants": ("finetune",),
    "patience": ("finetune",),
    "head_learning_rate": ("finetune",),
    **dict.fromkeys(("epochs", "batch_size", "learning_rate", "weight_decay"), ("finetune", "distil")),
    **dict.fromkeys(("label_smoothing", "class_weight", "averaging", "seed"), ("finetune", "distil")),
    "teacher": ("distil",),
}


@dataclass(frozen=True)
class Part(Schedule):
    """One member of a model: frozen features with logistic regression, a network with its last blocks trained, or ours.

    Attributes
    ----------
    name : what it is called
    method : "linear" (frozen features, StandardScaler, logistic regression), "finetune", or "distil" (cytonet,
        taught by another recipe's members)
    backbone : a name of the registry, or onnx:FILE
    preprocess : for onnx:FILE, the preprocessing that the network was trained with; else empty
    layer : name of the Keras layer to tap; empty for the last
    orientations : flips and turns to average over, one of orientations.COUNTS
    size : side of the network's input in pixels; 0 takes the backbone's own
    fit : how other shapes become a square, one of images.FITS
    filters : the filter chain, applied before resizing
    C : inverse regularisation strength; 0 chooses it by inner folds
    augmentation : for "finetune", how the copies to train on are made (see `augment.PRESETS`)
    variants : for "finetune", how many such copies of each cell
    epochs and the other fields of `Schedule` : for "finetune" and "distil", how the network is trained
    teacher : for "distil", the recipe whose members teach
    seed : for "finetune" and "distil", tells members apart that differ in nothing else
    stand_in : another member, taken in its place where its pretrained weights are not at hand

    Raises
    ------
    UsageError : a value that cannot be used, or one that the method does not read (see `READ_BY`)
    """

    name: str
    method: str = "linear"
    backbone: str = "morphology"
    preprocess: str = ""
    layer: str = ""
    orientations: int = 1
    size: int = 0
    fit: str = "stretch"
    filters: tuple[str, ...] = ()
    C: float = 0.0
    augmentation: str = "strong"
    variants: int = 8
    seed: int = 0
    teacher: str = ""
    stand_in: Part | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, METHODS),
            ("fit", self.fit, FITS),
            ("orientations", self.orientations, COUNTS),
        ):
            if value not in allowed:
                raise UsageError(f"recipe: {name} must be one of {', '.join(map(str, allowed))}", repr(value))
        for name, low, high in (
            ("C", 0.0, 1e6),
            ("size", 0, 1024),
            ("variants", 0, 200),
            ("epochs", 1, 1000),
            ("patience", 1, 1000),
            ("batch_size", 1, 1024),
            ("learning_rate", 0.0, 1.0),
            ("head_learning_rate", 0.0, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("label_smoothing", 0.0, 0.9),
            ("class_weight", 0.0, 1.0),
            ("averaging", 0.0, 0.9999),
            ("seed", 0, 2**32 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"recipe: {name} must lie between {low} and {high}", getattr(self, name))
        # The canonical texts, so that one chain has one name in caches and bundles.
        object.__setattr__(self, "filters", parse_chain(",".join(self.filters)))
        get_augmentation(self.augmentation)
        distils = self.method == "distil"
        if distils != bool(self.teacher) or (distils and self.backbone != "cytonet"):
            raise UsageError(
                "recipe: the method distil trains the backbone cytonet by a teacher",
                f"method {self.method!r}, backbone {self.backbone!r}, teacher {self.teacher!r}",
                'write method = "distil", backbone = "cytonet", teacher = "ensemble"',
            )
        _check_read(self.method, (f.name for f in fields(Part) if getattr(self, f.name) != f.default))


@dataclass(frozen=True)
class Recipe(Part):
    """One way to make a model: a single member, described by the fields of `Part`, or an ensemble of several.

    Attributes
    ----------
    description : one sentence
    target : "native" (the data set's own classes), "bethesda" or "binary"
    maps : label maps to prefer where the data set has several to the target
    sensitivity : the operating point is set for this sensitivity for abnormal cells
    max_risk : share of errors among the answered cells that the uncertain band is set for
    inner_folds : divisions of a training set: each held-out part stops one training early and calibrates
    rule : how an ensemble's members are combined, one of ensemble.RULES
    members : of an ensemble; empty where the recipe is its own single member
    copies : augmented copies of each cell under the as-published protocol
    copies_by : the augmentation that makes them
    published_test, published_validation : under the as-published protocol, shares of one random split; 0 for folds
    """

    description: str = ""
    target: str = "native"
    maps: tuple[str, ...] = ()
    sensitivity: float = 0.95
    max_risk: float = 0.05
    inner_folds: int = 5
    rule: str = "mean"
    members: tuple[Part, ...] = ()
    copies: int = 10
    copies_by: str = "geometric"
    published_test: float = 0.0
    published_validation: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target not in ("native", "bethesda", "binary"):
            raise UsageError("recipe: target must be one of native, bethesda, binary", repr(self.target))
        for name, low, high in (
            ("sensitivity", 0.5, 1.0),
            ("max_risk", 0.0, 0.5),
            ("copies", 1, 100),
            ("inner_folds", 2, 20),
            ("published_test", 0.0, 0.5),
            ("published_validation", 0.0, 0.3),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"recipe: {name} must lie between {low} and {high}", getattr(self, name))
        get_augmentation(self.copies_by)
        get_rule(self.rule)
        for name in self.maps:
            get_map(name)
        names = [part.name for m in self.members for part in (m, m.stand_in) if part]
        if len(self.members) == 1 or len(set(names)) < len(names):
            raise UsageError(
                "recipe: an ensemble needs at least two members, and each member and stand-in a name of its own",
                ", ".join(names),
                "add a member, or write name = ... for those that share one",
            )
        if self.members:
            _only_members_have(f.name for f in fields(Part) if getattr(self, f.name) != f.default)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The members: those of an ensemble, or the recipe itself."""
        return self.members or (self,)

    def changed(self, **options: Any) -> Recipe:
        """The recipe with the options that are not None in place of its own values.

        Raises
        ------
        UsageError : a value that cannot be used, or for an ensemble one that belongs to its members
        """
        given = {k: v for k, v in options.items() if v is not None}
        if self.members:
            _only_members_have(given)
        return replace(self, **given)

    def to_json(self) -> dict[str, Any]:
        """A plain form, stored with the run."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def _check_read(method: str, keys: Iterable[str]) -> None:
    """Refuse keys that a method does not read: they would do nothing."""
    idle = [key for key in keys if method not in READ_BY.get(key, METHODS)]
    if idle:
        readers = "; ".join(f"{key} is read by {' and '.join(READ_BY[key])}" for key in idle)
        raise UsageError(f"recipe: the method {method} does not read {', '.join(idle)}", f"method {method!r}", readers)


def _only_members_have(given: Iterable[str]) -> None:
    """Refuse what says how one member is made where it stands beside members: it would do nothing."""
    own = {f.name for f in fields(Part)} - {"name"}
    astray = [name for name in given if name in own]
    if astray:
        raise UsageError(
            "recipe: in an ensemble this belongs to its members",
            ", ".join(astray),
            "write it under [[members]], in a recipe file of your own",
        )


def shipped() -> tuple[str, ...]:
    """Names of the recipes that ship, sorted."""
    folder = resources.files("cervicyte.training") / "recipe_files"
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
        text = (resources.files("cervicyte.training") / "recipe_files" / f"{text_name}.toml").read_text(
            encoding="utf-8"
        )
        stem = text_name
    else:
        hint = did_you_mean(text_name, shipped())
        raise UsageError("unknown recipe", repr(text_name), f"{hint}there are: {', '.join(shipped())}, or FILE.toml")
    try:
        return _parse(stem, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError("the recipe is not valid TOML", text_name, str(error)) from error


def _parse(name: str, table: Mapping[str, Any]) -> Recipe:
    values = dict(table)
    rows = values.pop("members", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError("recipe: members are tables", repr(rows)[:100], "write each under [[members]]")
    if rows:
        _only_members_have(values)
    elif "members" in table or "rule" in table:
        raise UsageError("recipe: an ensemble without members", ", ".join(table), "write each under [[members]]")
    members = []
    for row in rows:
        given = dict(row)
        other = given.pop("stand_in", None)
        part = _part(given)
        if other is not None:
            if not isinstance(other, dict):
                raise UsageError("recipe: stand_in is a table", repr(other)[:100])
            method = other.get("method", part.method)
            kept = (k for k in given if k not in ("backbone", "name") and method in READ_BY.get(k, METHODS))
            part = replace(part, stand_in=_part({k: given[k] for k in kept} | other))
        members.append(part)
    recipe = Recipe(name, **_values(Recipe, values, ("name", "members", "stand_in")), members=tuple(members))
    _check_read(recipe.method, values)
    return recipe


def _part(table: Mapping[str, Any]) -> Part:
    """A member from its table; keys that its method does not read are refused even with their default values."""
    part = Part(**_values(Part, table, ("stand_in",)) | {"name": _member_name(table)})
    _check_read(part.method, table)
    return part


def _member_name(row: Mapping[str, Any]) -> str:
    """A member's own name, or what tells it from the others."""
    parts = [row.get("backbone", "morphology"), *row.get("filters", ())]
    parts += [f"{row[key]} px" if key == "size" else f"seed {row[key]}" for key in ("size", "seed") if row.get(key)]
    return str(row.get("name") or " ".join(map(str, parts)))


def _values(kind: type, table: Mapping[str, Any], closed: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a table by name, each of its field's kind."""
    by_type: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    kinds = {f.name: by_type.get(str(f.type), (list,)) for f in fields(kind) if f.name not in closed}
    for key, value in table.items():
        if key not in kinds:
            hint = did_you_mean(key, kinds)
            raise UsageError("unknown key in the recipe", repr(key), f"{hint}keys: {', '.join(kinds)}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise UsageError(f"recipe: {key} has the wrong kind of value", repr(value))
    return {k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in table.items()}
