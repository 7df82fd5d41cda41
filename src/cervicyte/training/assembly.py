"""From a recipe's parts to members, exporting networks and cutting crops where that was not done before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from cervicyte.errors import UsageError
from cervicyte.features.extraction import NetworkExtractor
from cervicyte.fields import crops as pool, sharpening
from cervicyte.images.augmentation import get_augmentation
from cervicyte.networks.registry import find_weights, get_backbone
from cervicyte.training.members import Member, make_member
from cervicyte.training.recipes import Part, load_recipe
from cervicyte.training.schedule import Schedule

#: Layers of ResNet50 whose features our own network learns to give: the last two stages.
_SIGHT = (None, "conv4_block6_out")

#: Crops that it learns to see from.
_CROPS = 8_000


def make_members(
    parts: Sequence[Part],
    weights: str | None,
    precision: str | None,
    seed: int,
    copies: str,
    crops: Sequence[Path | str] = (),
) -> tuple[Member, ...]:
    """Make the members of a model.

    Parameters
    ----------
    weights, precision, seed, copies : see `cervicyte.training.members.make_member`
    crops : folders with fields of view without labels, for members that are distilled

    Raises
    ------
    UsageError, MissingError, DataError : as their messages say
    """
    for part in parts:  # told before the first network is exported, not after the fifth
        for one in load_recipe(part.teacher).parts if part.method == "distil" else (part,):
            backbone = get_backbone(one.backbone, one.preprocess or None)
            if backbone.kind == "keras":
                find_weights(backbone, weights)
        if part.method == "distil" and not crops:
            raise UsageError(
                "this recipe also learns from cells without labels, and no folder with such was given",
                part.name,
                "give folders with whole fields of view: --crops FOLDER",
            )
    return tuple(
        _distilled(part, weights, precision, seed, copies, crops)
        if part.method == "distil"
        else make_member(part, weights, precision, seed, copies)
        for part in parts
    )


def _distilled(
    part: Part, weights: str | None, precision: str | None, seed: int, copies: str, crops: Sequence[Path | str]
) -> Member:
    from cervicyte.networks.cytonet import Shape
    from cervicyte.training.cytonet.student import DistilledMember
    from cervicyte.training.cytonet.teacher import Seat, Teacher

    seats = []
    for one in load_recipe(part.teacher).parts:
        upright = replace(one, variants=0, orientations=1) if one.method == "finetune" else one
        seats.append(Seat(*(make_member(p, weights, precision, seed, copies) for p in (one, upright))))
    sight = [
        NetworkExtractor(
            get_backbone("ResNet50"),
            weights,
            fit=part.fit,
            chain=part.filters,
            layer=layer,
            orientations=4,
            precision=precision,
        )
        for layer in _SIGHT
    ]
    unlabelled = sharpening.write(pool.cut(crops, _CROPS, part.seed))
    schedule = Schedule(**{f.name: getattr(part, f.name) for f in fields(Schedule)})
    shape = Shape(side=part.size) if part.size else Shape()
    return DistilledMember(
        part, shape, schedule, Teacher(seats), sight, unlabelled, precision, get_augmentation(copies), seed
    )
