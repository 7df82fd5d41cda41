"""From a recipe's parts to members, exporting networks and cutting crops where that was not done before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cervicyte.errors import UsageError
from cervicyte.features.extraction import NetworkExtractor
from cervicyte.fields import sharpening
from cervicyte.fields.crops import cut
from cervicyte.images.augmentation import get_augmentation
from cervicyte.networks.registry import find_weights, get_backbone
from cervicyte.training.members import Member, make_member
from cervicyte.training.parts import Distil, Finetune, Linear, Part
from cervicyte.training.recipes import load_recipe

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
        for one in teachers_of(part) if isinstance(part, Distil) else (part,):
            backbone = get_backbone(one.backbone, (one.preprocess or None) if isinstance(one, Linear) else None)
            if backbone.kind == "keras":
                find_weights(backbone, weights)
        if isinstance(part, Distil) and not crops:
            raise UsageError(
                "this recipe also learns from cells without labels, and no folder with such was given",
                part.name,
                "give folders with whole fields of view: --crops FOLDER",
            )
    return tuple(
        _distilled(part, weights, precision, seed, copies, crops)
        if isinstance(part, Distil)
        else make_member(part, weights, precision, seed, copies)
        for part in parts
    )


def teachers_of(part: Distil) -> tuple[Linear | Finetune, ...]:
    """Give the parts of the recipe whose members teach a student.

    Raises
    ------
    UsageError : no such recipe, or one that distils itself
    """
    parts = tuple(p for p in load_recipe(part.teacher).members if not isinstance(p, Distil))
    if len(parts) < len(load_recipe(part.teacher).members):
        raise UsageError(
            "recipe: a teacher's members are not distilled themselves", part.teacher, 'write teacher = "ensemble"'
        )
    return parts


def _distilled(
    part: Distil, weights: str | None, precision: str | None, seed: int, copies: str, crops: Sequence[Path | str]
) -> Member:
    from cervicyte.networks.cytonet import Shape
    from cervicyte.training.cytonet.student import DistilledMember
    from cervicyte.training.cytonet.teacher import Seat, Teacher

    seats = []
    for one in teachers_of(part):
        upright = one.without_views() if isinstance(one, Finetune) else one
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
    unlabelled = sharpening.write(cut(crops, _CROPS, part.seed))
    shape = Shape(side=part.size) if part.size else Shape()
    return DistilledMember(part, shape, Teacher(seats), sight, unlabelled, precision, get_augmentation(copies), seed)
