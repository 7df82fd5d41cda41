"""What a run will do: the cells that can be read, the members that read them, and divisions that passed the gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from cervicyte import settings
from cervicyte.audit import checks, leakage
from cervicyte.base import working_folder
from cervicyte.base.files import printable
from cervicyte.data import splits
from cervicyte.data.cells import CellTable
from cervicyte.errors import UsageError
from cervicyte.features.descriptor_table import Describer
from cervicyte.images.decoding import CellImage
from cervicyte.networks.registry import has_weights
from cervicyte.training.assembly import make_members
from cervicyte.training.divisions import divide, targeted, warnings_about
from cervicyte.training.members import Member
from cervicyte.training.parts import Distil, Finetune, Linear, Part
from cervicyte.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is asked for besides cells and recipe; `cervicyte.train` says what each option means."""

    protocol: str = "grouped"
    folds: int | None = None
    holdout: bool = False
    compare: tuple[str, ...] | None = None
    weights: str | None = None
    precision: str | None = None
    seed: int = 0
    join_duplicates: bool = False
    crops: tuple[str, ...] = ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """The chosen protocol, then those that are run beside it."""
        beside = self.compare
        if beside is None:  # the honest number is never missing
            beside = ("grouped",) if self.protocol == "as-published" else ()
        return tuple(dict.fromkeys((self.protocol, *beside)))

    def __str__(self) -> str:
        """The options that were chosen, as arguments of a call."""
        chosen = ((f.name, getattr(self, f.name)) for f in fields(self))
        return "".join(f", {name}={value!r}" for name, value in chosen if value not in (None, False, ()))


@dataclass(frozen=True, kw_only=True)
class Team:
    """The members of a run.

    Attributes
    ----------
    members : see the cells themselves
    copiers : the same, for a table that holds augmented copies already; empty where no protocol makes copies
    warnings : one for each stand-in
    """

    members: tuple[Member, ...]
    copiers: tuple[Member, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one protocol judges: cells, members that have read them, folds that passed the gate, and warnings."""

    cells: CellTable
    members: tuple[Member, ...]
    division: splits.Folds
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before its first training: whatever could be refused was refused, and all that is frozen is computed.

    Attributes
    ----------
    cells : those that every member could read, under the target labels, without copies
    recipe : with its own members, not their stand-ins
    seed : of folds, inner folds and trainings
    members : of the model
    trials : one for each protocol, the chosen one's first
    describer : knows the descriptors of all cells
    audit : of the cells
    failed : path and reason of each cell that cannot be used
    """

    cells: CellTable
    recipe: Recipe
    seed: int
    members: tuple[Member, ...]
    trials: tuple[Trial, ...]
    describer: Describer
    audit: checks.Audit
    failed: Mapping[str, str]


def make_plan(cells: CellTable, recipe: Recipe, options: Options) -> Plan:
    """Check the options, make the members, and have every division pass the gate, so that a refusal costs no training.

    Raises
    ------
    LeakageError : an honest protocol's test cells share a group or a near duplicate with training cells
    DataError, UsageError, MissingError, StorageError : as their messages say
    """
    check_options(recipe, options)
    cells = targeted(cells, recipe)
    # What cannot be divided is refused now, not after the features of a hundred thousand cells.
    for protocol in options.protocols:
        _divided(with_copies(cells, recipe) if protocol == "as-published" else cells, protocol, recipe, options)
    return plan_with(make_team(recipe, options), cells, recipe, options)


def plan_with(team: Team, cells: CellTable, recipe: Recipe, options: Options) -> Plan:
    """Have a team read the cells, audit these, and divide them for each protocol.

    Parameters
    ----------
    cells : under the recipe's target labels

    Raises
    ------
    LeakageError : as for `make_plan`, or crops without labels come from the cells' own files
    DataError, StorageError : no cell can be read; the activations do not fit on the disk
    """
    for member in team.members:
        if member.crops is not None:
            leakage.check_crops(cells, member.crops)
    shipped = any(isinstance(m.part, Linear) and m.part.backbone.lower() == "cytonet" for m in team.members)
    seen = {name: leakage.check_backbone(cells, name) if shipped else () for name in options.protocols}
    check_space(((cells, team.members), (with_copies(cells, recipe), team.copiers)))

    cells, failed = read_cells(cells, team.members)
    audit = checks.audit(cells)
    if options.join_duplicates:
        cells = leakage.joined(cells, audit.pairs)
    describer = Describer(recipe.copies_by, options.seed)
    trials = []
    for protocol in options.protocols:
        table, members, pairs = cells, team.members, audit.pairs
        if protocol == "as-published":
            table, failed_copies = read_cells(with_copies(cells, recipe), team.copiers)
            failed |= failed_copies
            members, pairs = team.copiers, ()
        division = _divided(table, protocol, recipe, options)
        leaks = leakage.check(table, division, pairs)
        warnings = (*warnings_about(protocol, cells, options.folds), *seen[protocol], *leaks, *team.warnings)
        trials.append(Trial(cells=table, members=members, division=division, warnings=warnings))
        describer.read(table)
    return Plan(
        cells=cells,
        recipe=recipe,
        seed=options.seed,
        members=team.members,
        trials=tuple(trials),
        describer=describer,
        audit=audit,
        failed=failed,
    )


def make_team(recipe: Recipe, options: Options) -> Team:
    """Make the recipe's members, stand-ins where pretrained weights are not at hand.

    Raises
    ------
    UsageError, MissingError, DataError : as their messages say
    """
    parts, warnings = parts_at_hand(recipe, options.weights)
    made_with = (options.weights, options.precision, options.seed, recipe.copies_by)
    members = make_members(parts, *made_with, options.crops)
    copiers = make_members(_without_views(parts), *made_with) if "as-published" in options.protocols else ()
    return Team(members=members, copiers=copiers, warnings=warnings)


def parts_at_hand(recipe: Recipe, weights: str | None) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Give the recipe's parts, stand-ins where weights are not at hand, and a warning for each of these."""
    parts, warnings = [], []
    for part in recipe.members:
        if part.stand_in is not None and not has_weights(part.backbone, weights):
            warnings.append(
                f"STAND-IN: the pretrained weights of {part.backbone} are not at hand, so {part.stand_in.name!r} takes "
                f"the place of {part.name!r}."
            )
            part = part.stand_in
        parts.append(part)
    return tuple(parts), tuple(warnings)


def with_copies(cells: CellTable, recipe: Recipe) -> CellTable:
    """Add the augmented copies that the recipe's published protocol makes of each cell."""
    return splits.augmented(cells, recipe.copies)


def read_cells(cells: CellTable, members: Sequence[Member]) -> tuple[CellTable, dict[str, str]]:
    """Have every member read the cells.

    Returns
    -------
    the cells that every member could read, and the reason for each of the others, a copy by its original and number

    Raises
    ------
    DataError : a member can read none
    """
    reasons: dict[str, str] = {}
    for member in members:
        reasons |= member.read(cells)
    readable = np.all([member.has(cells) for member in members], axis=0)
    failed = {
        cell_name(cell.image): reasons.get(printable(cell.path), "it cannot be read")
        for cell in cells.subset(~readable).cells
    }
    return cells.subset(readable), failed


def cell_name(image: CellImage) -> str:
    """Name a cell in files and messages: its path, and where there are such its box and the number of the copy."""
    box = "" if image.box is None else f"#{','.join(map(str, image.box))}"
    return printable(image.path) + box + (f" copy {image.variant}" if image.variant else "")


def check_space(tables: Iterable[tuple[CellTable, Sequence[Member]]]) -> None:
    """Refuse a run whose activations, which are in use all the time, are larger than their bound together.

    Raises
    ------
    StorageError : they are
    """
    needed: dict[tuple[str, int], int] = {}
    for cells, members in tables:
        for member in members:
            needed |= {(key, len(cells)): size for key, size in member.working_bytes(cells).items()}
    working_folder.check(sum(needed.values()))


def check_options(recipe: Recipe, options: Options) -> None:
    """Refuse what cannot be done, and what would otherwise be ignored in silence.

    Raises
    ------
    UsageError : such an option, or a setting with a wrong value
    """
    for protocol in options.protocols:
        splits.get_protocol(protocol)
    splits.check_seed(options.seed)
    settings.check_all()
    if options.precision not in (None, "auto", "float32", "bfloat16"):
        raise UsageError("unknown precision", repr(options.precision), "there are: auto, float32, bfloat16")
    distilled = [p.name for m in recipe.members for p in (m, m.stand_in) if isinstance(p, Distil)]
    if distilled and "as-published" in options.protocols:
        raise UsageError(
            "a student is not taught on copies, so a recipe that distils has no as-published number",
            ", ".join(distilled),
            "use --protocol grouped, or random",
        )
    if options.crops and not distilled:
        raise UsageError(
            "no member of the recipe learns from crops without labels; --crops would do nothing",
            f"{len(options.crops)} folder(s), recipe {recipe.name}",
            "leave --crops out, or take a recipe that distils: --recipe cytonet",
        )
    for part in recipe.members:
        if isinstance(part, Distil) or part.backbone.lower() != "morphology":
            continue
        if part.size or part.fit != "stretch" or part.orientations != 1:
            raise UsageError(
                "morphology measures a cell as it is; size, fit and orientations do nothing",
                f"size {part.size}, fit {part.fit}, orientations {part.orientations}",
                "leave them out",
            )


def _divided(cells: CellTable, protocol: str, recipe: Recipe, options: Options) -> splits.Folds:
    return divide(cells, protocol, options.folds, options.seed, options.holdout, recipe.published_test)


def _without_views(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Members for a table that holds the copies already: they make none of their own and average no flips."""
    return tuple(part.without_views() if isinstance(part, Finetune) else part for part in parts)
