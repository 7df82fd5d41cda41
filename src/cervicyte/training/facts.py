"""What was done in a run, in words: data, members, folds, versions; the table that reports and cards show."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cervicyte.base.versions import own_version
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.decision.ensemble import get_rule
from cervicyte.evaluation.results import DIFFERS
from cervicyte.networks.registry import get_backbone
from cervicyte.training.members import Member
from cervicyte.training.parts import Distil, Finetune, Linear, Part
from cervicyte.training.recipes import Recipe


def describe(
    cells: CellTable, recipe: Recipe, members: Sequence[Member], protocol: str, folds: splits.Folds, seed: int
) -> dict[str, str]:
    """The facts of a run, in the order in which the report shows them."""
    ways = [_words(member.part, member.weights) for member in members]
    if len(members) > 1:
        method = {f"Member {i}: {m.name}": _line(w) for i, (m, w) in enumerate(zip(members, ways, strict=True), 1)}
        method["Combined by"] = f"{recipe.rule}: {get_rule(recipe.rule).words}"
    else:
        method = ways[0]
    crops = ", ".join(dict.fromkeys(m.crops.fingerprint for m in members if m.crops is not None))
    return {
        "Data set": cells.name,
        "Cells": str(len(cells)),
        "Groups": str(len(set(cells.groups))) if cells.grouped else "unknown",
        "Label system": cells.system.name,
        "Protocol": protocol,
        "Folds": str(len(folds)),
        **({"Evenness": _evenness(cells, folds)} if protocol == "grouped" else {}),
        **(_copies(recipe, members) if protocol == "as-published" else {}),
        "Recipe": recipe.name,
        **method,
        "Operating point": f"set for {recipe.sensitivity:.0%} sensitivity on out-of-fold training cells",
        "Uncertain band": f"set for at most {recipe.max_risk:.0%} errors among answered training cells, out of fold",
        "Precision": ", ".join(dict.fromkeys(member.precision for member in members)),
        "Seed": str(seed),
        "Data fingerprint": cells.fingerprint,
        **({"Crops": crops} if crops else {}),
        "cervicyte": own_version(),
        "Python": platform.python_version(),
        "Made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _evenness(cells: CellTable, folds: splits.Folds) -> str:
    return (
        f"a class's share in a fold differs from even by up to {100 * splits.unevenness(cells.codes, folds):.1f} points"
    )


def _copies(recipe: Recipe, members: Sequence[Member]) -> dict[str, str]:
    """How the published way makes copies, and what else it does that the grouped protocol does not."""
    facts = {"Copies": f"{recipe.copies} {recipe.copies_by} copies of each cell, divided with the originals"}
    differs = []
    if any(isinstance(m.part, Finetune) for m in members):
        differs.append(
            "under as-published, fine-tuned members learn from these copies alone and average no flips, where grouped "
            "ones make views of their own and average the orientations of the recipe"
        )
    if recipe.published_validation:
        share = f"{recipe.published_validation:.0%}"
        facts["Validation"] = f"{share} of all images, to stop early and calibrate"
        differs.append(
            f"as-published stops and calibrates on one part of {share} of all images, where grouped has up to "
            f"{recipe.inner_folds} inner folds, and the mean of as many versions of a fine-tuned network"
        )
    return facts | ({DIFFERS: "; ".join(differs)} if differs else {})


def _words(part: Part, weights: str) -> dict[str, str]:
    """What a member is made of, in words."""
    words = {
        "Backbone": part.backbone,
        "Weights": weights,
        "Layer": (isinstance(part, Linear) and part.layer) or "last",
        "Orientations averaged": "1" if isinstance(part, Distil) else str(part.orientations),
        "Filters": ", ".join(part.filters) or "none",
    }
    if part.size:
        words["Input size"] = f"{part.size} px"
    if isinstance(part, Linear):
        return words | {"C": f"fixed at {part.C:g}" if part.C else "chosen by inner folds of the training cells"}
    if isinstance(part, Distil):
        return words | {
            "Distilled": f"{part.epochs} epochs on training cells and crops without labels",
            "Teacher": f"the members of the recipe {part.teacher}, fitted on the same training cells",
        }
    tail = ", ".join(get_backbone(part.backbone).tail)
    return words | {
        "Fine-tuned": f"{tail}; up to {part.epochs} epochs, stopped early on held-out training cells",
        "Training views": f"each cell, its orientations, and {part.variants} {part.augmentation} copies",
    }


def _line(words: Mapping[str, str]) -> str:
    notable = ((name, value) for name, value in words.items() if value not in ("none", "last", "1"))
    return "; ".join(f"{name if name.isupper() else name.lower()} {value}" for name, value in notable)
