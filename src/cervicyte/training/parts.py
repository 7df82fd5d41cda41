"""The parts of a recipe: one record for each way to make a member of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cervicyte.errors import UsageError
from cervicyte.images.augmentation import get_augmentation
from cervicyte.images.decoding import FITS
from cervicyte.images.filters import stored_chain
from cervicyte.networks.orientations import COUNTS
from cervicyte.training.schedule import Schedule
from cervicyte.training.validation import check_bounds, check_keys, joined, read_record

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="method"):
    """What every part says.

    Attributes
    ----------
    name : what the member is called
    backbone : a name of the registry, or onnx:FILE
    size : side of the network's input in pixels; 0 takes the backbone's own
    fit : how other shapes become a square, one of `cervicyte.images.decoding.FITS`
    filters : the filter chain, applied before resizing
    stand_in : another part, taken in its place where its pretrained weights are not at hand
    """

    name: str
    backbone: str = "morphology"
    size: Annotated[int, Meta(ge=0, le=1024)] = 0
    fit: str = "stretch"
    filters: tuple[str, ...] = ()
    stand_in: Part | None = None

    def __post_init__(self) -> None:
        check_one_of("fit", self.fit, FITS)
        check_bounds(self)
        # The canonical texts, so that one chain has one name in caches and bundles.
        msgspec.structs.force_setattr(self, "filters", stored_chain(self.filters))


class _Trained(_Part, frozen=True, kw_only=True):
    """What a part whose network is trained says: the fields of `Schedule` that its method reads.

    Attributes
    ----------
    seed : tells members apart that differ in nothing else
    """

    epochs: Annotated[int, Meta(ge=1, le=1000)] = Schedule.epochs
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = Schedule.batch_size
    learning_rate: Share = Schedule.learning_rate
    weight_decay: Share = Schedule.weight_decay
    label_smoothing: Annotated[float, Meta(ge=0.0, le=0.9)] = Schedule.label_smoothing
    class_weight: Share = Schedule.class_weight
    averaging: Annotated[float, Meta(ge=0.0, le=0.9999)] = Schedule.averaging
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0

    @property
    def schedule(self) -> Schedule:
        """How the network is trained."""
        own = self.__struct_fields__
        return Schedule(**{f.name: getattr(self, f.name) for f in fields(Schedule) if f.name in own})


class Linear(_Part, frozen=True, kw_only=True, tag="linear"):
    """Frozen features or measurements, standardised, and logistic regression.

    Attributes
    ----------
    name, backbone, size, fit, filters, stand_in : as for every part
    preprocess : for onnx:FILE, the preprocessing that the network was trained with; else empty
    layer : name of the Keras layer to tap; empty for the last
    orientations : flips and turns to average over, one of `cervicyte.networks.orientations.COUNTS`
    C : inverse regularisation strength; 0 chooses it by inner folds

    Raises
    ------
    UsageError : a value that cannot be used
    """

    preprocess: str = ""
    layer: str = ""
    orientations: int = 1
    C: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("orientations", self.orientations, COUNTS)


class Finetune(_Trained, frozen=True, kw_only=True, tag="finetune"):
    """A pretrained network whose last two blocks are trained.

    Attributes
    ----------
    name, backbone, size, fit, filters, stand_in, seed : as for every part that is trained
    orientations : flips and turns to average over, one of `cervicyte.networks.orientations.COUNTS`
    augmentation : how the copies to train on are made (see `cervicyte.images.augmentation.PRESETS`)
    variants : how many such copies of each cell
    epochs, patience and the other fields of `Schedule` : how the network is trained

    Raises
    ------
    UsageError : a value that cannot be used
    """

    orientations: int = 1
    augmentation: str = "strong"
    variants: Annotated[int, Meta(ge=0, le=200)] = 8
    patience: Annotated[int, Meta(ge=1, le=1000)] = Schedule.patience
    head_learning_rate: Share = Schedule.head_learning_rate

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("orientations", self.orientations, COUNTS)
        get_augmentation(self.augmentation)

    def without_views(self) -> Finetune:
        """The same without copies and flips of its own, for tables that hold copies already and for crops."""
        return msgspec.structs.replace(self, variants=0, orientations=1)


class Distil(_Trained, frozen=True, kw_only=True, tag="distil"):
    """Our own network, cytonet, taught by the members of another recipe.

    Attributes
    ----------
    name, backbone, size, fit, filters, stand_in, seed : as for every part that is trained
    teacher : the recipe whose members teach
    epochs and the other fields of `Schedule`, but for patience and head_learning_rate : how the network is trained

    Raises
    ------
    UsageError : a value that cannot be used
    """

    teacher: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teacher or self.backbone != "cytonet":
            raise UsageError(
                "recipe: the method distil trains the backbone cytonet by a teacher",
                f"backbone {self.backbone!r}, teacher {self.teacher!r}",
                'write method = "distil", backbone = "cytonet", teacher = "ensemble"',
            )


Part = Linear | Finetune | Distil

#: The record of each method.
METHODS: Mapping[str, type[Part]] = {"linear": Linear, "finetune": Finetune, "distil": Distil}

#: Which methods read a key of a part.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "method": tuple(METHODS),
    **{
        key: tuple(name for name, kind in METHODS.items() if key in kind.__struct_fields__)
        for record in METHODS.values()
        for key in record.__struct_fields__
    },
}


def method_of(part: Part) -> str:
    """Name the method of a part."""
    return next(name for name, kind in METHODS.items() if isinstance(part, kind))


def read_part(table: Mapping[str, Any], place: str = "") -> Part:
    """Read a part from its table; where it has no name, it is called by what tells it from the others.

    Parameters
    ----------
    table : without a stand-in
    place : where the table stands, for errors: empty, or a path such as "members[1]"

    Raises
    ------
    UsageError : an unknown key or method, a key that the method does not read, even with its default value, or a value
        that cannot be used
    """
    method = table.get("method", "linear")
    check_one_of(joined(place, "method"), method, METHODS)
    check_keys(table, tuple(key for key in READ_BY if key != "stand_in"), place)
    check_read(method, table, place)
    values = {key: value for key, value in table.items() if key != "method"}
    part = read_record(METHODS[method], {"name": "", **values}, place)
    return part if part.name else msgspec.structs.replace(part, name=_name_of(table))


def read_member(table: Mapping[str, Any], place: str) -> Part:
    """Read a part that may have a stand-in, which is made as its part is but for what it says itself.

    Raises
    ------
    UsageError : as for `read_part`
    """
    values = dict(table)
    stand_in = values.pop("stand_in", None)
    part = read_part(values, place)
    if stand_in is None:
        return part
    there = joined(place, "stand_in")
    if not isinstance(stand_in, dict):
        raise UsageError("recipe: stand_in is a table", repr(stand_in)[:100], f"mend {there}")
    method = stand_in.get("method", method_of(part))
    inherited = {k: v for k, v in values.items() if k not in ("backbone", "name") and method in READ_BY[k]}
    return msgspec.structs.replace(part, stand_in=read_part(inherited | {"method": method} | stand_in, there))


def check_read(method: str, keys: Iterable[str], place: str = "") -> None:
    """Refuse keys that a method does not read: they would do nothing.

    Raises
    ------
    UsageError : there are such keys
    """
    idle = [key for key in keys if method not in READ_BY[key]]
    if idle:
        readers = "; ".join(f"{key} is read by {' and '.join(READ_BY[key])}" for key in idle)
        received = f"method {method!r}" + (f", at {place}" if place else "")
        raise UsageError(f"recipe: the method {method} does not read {', '.join(idle)}", received, readers)


def _name_of(table: Mapping[str, Any]) -> str:
    """What tells a member from the others."""
    words = [table.get("backbone", "morphology"), *table.get("filters", ())]
    words += [f"{table['size']} px"] if table.get("size") else []
    words += [f"seed {table['seed']}"] if table.get("seed") else []
    return " ".join(map(str, words))


def check_one_of(key: str, value: object, allowed: Iterable[object]) -> None:
    """Refuse a value that is none of those allowed.

    Raises
    ------
    UsageError : it is none of them
    """
    if value not in tuple(allowed):
        raise UsageError(f"recipe: {key} must be one of {', '.join(map(str, allowed))}", repr(value))
