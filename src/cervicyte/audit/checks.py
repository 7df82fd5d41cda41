"""The audit: what in a data set would make numbers lie, found before a model is trained on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from cervicyte.audit import artefacts, duplicates, signatures
from cervicyte.audit.box_scale import better_fit
from cervicyte.audit.duplicates import DuplicatePair
from cervicyte.audit.findings import SEVERITIES, Audit, Finding
from cervicyte.audit.leaks import Leak, join_duplicates, leaks
from cervicyte.audit.nuclei import nuclei_seen
from cervicyte.audit.surveys import Survey, survey
from cervicyte.data.cells import CellTable
from cervicyte.data.readers.lbc import SOURCE as FIELDS_SOURCE
from cervicyte.data.spelling import label_twins, twins
from cervicyte.errors import DataError

__all__ = ["SEVERITIES", "Audit", "Finding", "Leak", "Survey", "audit", "join_duplicates", "leaks", "survey"]

#: Difference between bright and dark parts (75th and 3rd percentile of the smoothed grey, 64 px) under
#: which a crop holds no nucleus. Herlev cells have 15.7 and more, CRIC cells 52 and more; of CRIC crops
#: with x and y swapped a quarter has less.
MIN_DARKNESS = 13.0

#: Share of the pixels in the six commonest of 32,768 colours from which an image is a drawing or mask.
#: Herlev cells reach 0.85 (with their padding), LBC fields 0.76; segmentation masks have 1.
MASK_FLATNESS = 0.97

#: Share of background-only crops from which the boxes themselves are in doubt.
_DOUBTFUL_BOXES = 0.05

#: Share of images with a nucleus in the middle under which they are no crops of cells, and how many say so.
#: Herlev and CRIC have 0.90 and 0.95; crops of CRIC cut from other fields 0.23; whole fields of LBC 0.11.
_NUCLEI_SEEN, _LEAST_NUCLEI = 0.6, 20

#: Lower end of the probe's interval from which an artefact is a warning and an error. Herlev, which was
#: made in one way for all classes, stays under 0.67; the LBC copy has 0.94 (smears) and 1.00 (file).
_ARTEFACT_WARNING, _ARTEFACT_ERROR = 0.70, 0.80

#: The same for measurements on which the cells act themselves: these are only told, unless all but certain.
_CONTENT_INFO, _CONTENT_WARNING = 0.70, 0.90

#: Names of the checks for each kind of duplicate.
_KIND_CHECK = {kind: f"{kind} copies" for kind in duplicates.KINDS} | {"overlap": "overlapping views"}

_MASK_NAME = re.compile(r"(-d|[-_ ](mask|masks|seg|segmentation|label|labels|annotation|gt))$", re.IGNORECASE)


def audit(cells: CellTable) -> Audit:
    """Look for everything that is known to make numbers lie.

    Every file is read once, and of some a second time: a sample of the cells, and fields with boxes. Memory grows by
    about 30 kB for each cell.

    Raises
    ------
    DataError : an empty table
    """
    if not len(cells):
        raise DataError("nothing to audit", "a table without cells")
    seen = survey(cells)
    pairs = duplicates.find_duplicates(cells, seen.looks)
    probes = _probes(cells, seen)
    findings: list[Finding] = []
    for check in _CHECKS:
        findings.extend(check(cells, seen, pairs))
    findings.extend(_artefact_findings(cells, seen, probes))
    order = list(SEVERITIES)
    findings.sort(key=lambda f: -order.index(f.severity))
    return Audit(name=cells.name, n=len(cells), findings=tuple(findings), pairs=tuple(pairs), probes=tuple(probes))


# --- the checks: each takes (cells, survey, pairs) and gives its findings -------------------------------


def _unreadable(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    if seen.problems:
        rows = sorted(seen.problems)
        reasons = {cells.cells[r].path: seen.problems[r] for r in rows}
        message = f"{len(rows)} of {len(cells)} cells cannot be read; they are left out of every other check."
        yield Finding(
            check="unreadable",
            severity="warning",
            count=len(rows),
            message=message,
            examples=tuple((r,) for r in rows),
            details={"reasons": reasons},
        )


def _duplicate_kinds(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    for kind, words in duplicates.KINDS.items():
        if kind == "declared":  # counted by what the table says, whether the eye sees it or not
            continue
        chosen = sorted((p for p in pairs if p.kind == kind), key=lambda p: -p.score)
        if not chosen:
            continue
        families = duplicates.components(len(cells), chosen)
        extra = len(cells) - len(np.unique(families))
        involved = len({p.first for p in chosen} | {p.second for p in chosen})
        crossing = len(_across(cells, chosen))
        where = f"{crossing} of them across groups" if crossing else "all within groups, which a grouped split respects"
        remain = "" if kind == "overlap" else f" Without the copies {len(cells) - extra} of {len(cells)} cells remain."
        message = f"{len(chosen)} pairs among {involved} cells, {where}: {words}.{remain}"
        grave = kind != "overlap" and extra > 0.02 * len(cells)
        details = {"cells": involved, "redundant": extra, "across_groups": crossing}
        yield Finding(
            check=_KIND_CHECK[kind],
            severity="warning" if grave else "info",
            count=len(chosen),
            message=message,
            examples=_rows(chosen),
            details=details,
        )


def _declared(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    copies = duplicates.declared(cells)
    if copies:
        crossing = sum(cells.groups[a] != cells.groups[b] for a, b in copies)
        where = f"{crossing} of them in another group" if crossing else "all in one group with it, kept together"
        message = (
            f"{len(copies)} of {len(cells)} cells are copies of another, as the data set itself says, {where}. "
            f"Without them {len(cells) - len(copies)} cells remain; only a grouped split keeps copies on one side."
        )
        yield Finding(
            check="declared copies",
            severity="warning" if crossing else "info",
            count=len(copies),
            message=message,
            examples=tuple(copies),
        )


def _across_groups(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    crossing = sorted(_across(cells, pairs), key=lambda p: (list(duplicates.KINDS).index(p.kind), -p.score))
    if crossing:
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(p.kind for p in crossing).items())
        message = (
            f"{len(crossing)} duplicate pairs belong to different groups ({kinds}): a grouped split can put one "
            "of each pair in training and the other in the test. Join their groups with --join-duplicates."
        )
        only_views = all(p.kind == "overlap" for p in crossing)
        severity = "warning" if only_views else "error"
        yield Finding(
            check="duplicates across groups",
            severity=severity,
            count=len(crossing),
            message=message,
            examples=_rows(crossing),
        )


def _label_conflict(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    conflicts = [p for p in pairs if p.kind != "overlap" and cells.labels[p.first] != cells.labels[p.second]]
    if conflicts:
        message = f"{len(conflicts)} pairs show the same picture under two labels; at least one label is wrong."
        yield Finding(
            check="one image, two labels",
            severity="error",
            count=len(conflicts),
            message=message,
            examples=_rows(conflicts),
        )


def _masks(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    flat = set(_where(_drawn(seen)))
    named = {row for row, cell in enumerate(cells.cells) if _MASK_NAME.search(Path(cell.path).stem)}
    rows = sorted(flat | named)
    if rows:
        message = (
            f"{len(rows)} of {len(cells)} images look like segmentation masks ({len(flat)} by their few flat colours, "
            f"{len(named)} by their names); counted as cells they are nonsense. Leave them out."
        )
        yield Finding(
            check="masks counted as images",
            severity="error",
            count=len(rows),
            message=message,
            examples=tuple((r,) for r in rows),
        )


def _drawn(seen: Survey) -> np.ndarray:
    return (seen.flatness >= MASK_FLATNESS) & (seen.contrast >= 25)


def _blank(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    blank = seen.contrast < signatures.MIN_CONTRAST + 1
    if blank.any():
        message = f"{blank.sum()} images are blank: one colour, nothing else."
        yield Finding(
            check="blank",
            severity="warning",
            count=int(blank.sum()),
            message=message,
            examples=tuple((r,) for r in _where(blank)),
        )
    empty = (seen.darkness < MIN_DARKNESS) & ~blank & ~_drawn(seen)
    if empty.any():
        share = (empty | blank).sum() / len(cells)
        boxes = any(c.box is not None for c in cells.cells)
        doubt = " The boxes are probably wrong: see 'scale of the boxes'." if boxes and share > _DOUBTFUL_BOXES else ""
        message = f"{empty.sum()} images show background only: nothing in them is as dark as a nucleus.{doubt}"
        severity = "error" if share > _DOUBTFUL_BOXES else "warning"
        rows = sorted(_where(empty), key=lambda r: seen.darkness[r])
        yield Finding(
            check="background only",
            severity=severity,
            count=len(rows),
            message=message,
            examples=tuple((r,) for r in rows),
        )


def _wrong_places(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    fit = better_fit(cells)
    if fit is not None:
        message = (
            f"The boxes do not lie on the nuclei: {fit.change}, and their centres are {fit.after:.1f} standard "
            f"deviations darker than their fields, where now it is {fit.before:.1f} ({fit.boxes} boxes in {fit.fields} "
            "fields). As they are, labels stand beside other cells than those that were labelled."
        )
        details = {"scale": list(fit.scale), "change": fit.change, "before": fit.before, "after": fit.after}
        yield Finding(check="scale of the boxes", severity="error", count=fit.boxes, message=message, details=details)


def _no_nucleus(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    if all(c.source == FIELDS_SOURCE for c in cells.cells):  # whole fields, as their reader says
        return
    nuclei = nuclei_seen(cells)
    n = nuclei.looked_at
    if n < _LEAST_NUCLEI:
        return
    # The upper end of Wilson's 95 % interval of the share.
    share = nuclei.seen / n
    upper = (share + 1.92 / n + 1.96 * np.sqrt(share * (1 - share) / n + 0.96 / n**2)) / (1 + 3.84 / n)
    if upper < _NUCLEI_SEEN:
        message = (
            f"Of {n} images only {nuclei.seen} ({share:.0%}) show a nucleus in their middle; of crops of single cells "
            "90 % and more do. Either they are no crops of single cells, or they were cut at other places, or from "
            "other fields, than those that were labelled."
        )
        rows = tuple((row,) for row in nuclei.without)
        yield Finding(
            check="no nucleus in the middle",
            severity="error",
            count=n - nuclei.seen,
            message=message,
            examples=rows,
            details={"share": round(share, 3)},
        )


def _straddling(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    sides = np.array([c.split for c in cells.cells], dtype=object)
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    if not len(train) or not len(test):
        return
    crossing = leaks(cells, train, test, pairs)
    for kind, what in (("group", "groups"), ("copy", "duplicate pairs")):
        chosen = [x for x in crossing if (x.kind == "group") == (kind == "group")]
        if chosen:
            message = f"{len(chosen)} {what} stand in both the train and the test folder that the data came with."
            rows = tuple((x.train_row, x.test_row) for x in chosen)
            yield Finding(
                check=f"{what} in train and test", severity="error", count=len(chosen), message=message, examples=rows
            )


def _spellings(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    first = {label: row for row, label in reversed(list(enumerate(cells.labels.tolist())))}
    if families := label_twins(first):
        message = f"Classes that differ by spelling only are told apart as if they were different: {_quoted(families)}."
        rows = tuple(tuple(first[label] for label in family[:2]) for family in families)
        yield Finding(
            check="classes in two spellings", severity="error", count=len(families), message=message, examples=rows
        )
    first = {cell.group: row for row, cell in reversed(list(enumerate(cells.cells)))}
    if families := twins(first) if cells.grouped else []:
        message = (
            f"{len(families)} groups are there in more than one spelling ({_quoted(families)}): one patient may stand "
            "on both sides of a split. Spell each in one way, or join them with --join-duplicates."
        )
        rows = tuple(tuple(first[group] for group in family[:2]) for family in families)
        yield Finding(
            check="groups in two spellings", severity="error", count=len(families), message=message, examples=rows
        )


def _quoted(families: Sequence[tuple[str, ...]], limit: int = 5) -> str:
    shown = "; ".join(" and ".join(map(repr, family)) for family in families[:limit])
    return shown + (f"; and {len(families) - limit} more" if len(families) > limit else "")


def _no_groups(cells: CellTable, seen: Survey, pairs: Sequence[DuplicatePair]) -> Iterable[Finding]:
    if not cells.grouped or len(set(cells.groups)) == len(cells) > 1:
        message = (
            "Nothing tells which cells come from one slide, patient or field, so each counts as its own group and "
            "no split can keep siblings apart. Give groups with --group-from REGEX or --groups FILE.csv."
        )
        yield Finding(check="no groups", severity="warning", count=len(cells), message=message)


_Check = Callable[[CellTable, Survey, Sequence[DuplicatePair]], Iterable[Finding]]
_CHECKS: tuple[_Check, ...] = (
    _unreadable,
    _across_groups,
    _declared,
    _duplicate_kinds,
    _label_conflict,
    _masks,
    _blank,
    _wrong_places,
    _no_nucleus,
    _straddling,
    _spellings,
    _no_groups,
)


# --- the probe ------------------------------------------------------------------------------------------


def _probes(cells: CellTable, seen: Survey) -> list[artefacts.Probe]:
    rows = np.flatnonzero(np.isfinite(seen.features).all(axis=1))
    labels = cells.labels[rows]
    present = [c for c in cells.system.classes if (labels == c).any()]
    targets = [(name, labels == name) for name in present]
    if len(present) == 2:
        targets = targets[:1]
    abnormal = cells.system.abnormal
    if abnormal is not None and 0 < len(abnormal & set(present)) < len(present):
        targets = [("abnormal", np.isin(labels, list(abnormal))), *(t for t in targets if len(present) > 2)]
    if len(present) < 2:
        return []
    return artefacts.probe(seen.features[rows], labels, cells.groups[rows], targets)


def _is_target(cells: CellTable, target: str) -> np.ndarray:
    """Which cells belong to a target of the probe: a class, or the abnormal ones."""
    if target in cells.present:
        return np.asarray(cells.labels == target)
    return np.isin(cells.labels.astype(str), list(cells.system.abnormal or ()))


def _artefact_findings(cells: CellTable, seen: Survey, probes: Sequence[artefacts.Probe]) -> Iterable[Finding]:
    if not probes:
        message = "The artefact probe needs two classes with two groups each; it was not run."
        yield Finding(check="artefact probe", severity="info", count=0, message=message)
    for family in artefacts.FAMILIES:
        low, high = (_ARTEFACT_WARNING, _ARTEFACT_ERROR) if family.artefact else (_CONTENT_INFO, _CONTENT_WARNING)
        telling = sorted((p for p in probes if p.family == family.name and p.low >= low), key=lambda p: -p.auroc)
        if family.name == artefacts.SMEARS:
            telling = [p for p in telling if artefacts.smeared(seen.features, _is_target(cells, p.target))]
        if not telling:
            continue
        best = telling[0]
        sure = best.low >= high
        severity = ("error" if sure else "warning") if family.artefact else ("warning" if sure else "info")
        cause = (
            "The cells cannot cause this, so a classifier can score without looking at them."
            if family.artefact
            else "The cells themselves may cause this, so it is no proof of an artefact."
        )
        message = (
            f"{family.name.capitalize()} alone ({family.words}) tells {best.target!r} from the rest with AUROC "
            f"{best.auroc:.2f} ({best.low:.2f} to {best.high:.2f}) on unseen groups; most of it lies in "
            f"{best.feature!r}, on average {best.inside:.3g} inside and {best.outside:.3g} outside. {cause}"
        )
        details = {"targets": [{"target": p.target, "auroc": p.auroc, "ci95": [p.low, p.high]} for p in telling]}
        examples = _extremes(seen.features[:, artefacts.FEATURES.index(best.feature)])
        yield Finding(
            check=f"artefact: {family.name}",
            severity=severity,
            count=len(telling),
            message=message,
            examples=examples,
            details=details,
        )


def _extremes(values: np.ndarray, n: int = 6) -> tuple[tuple[int, ...], ...]:
    rows = np.flatnonzero(np.isfinite(values))
    order = rows[np.argsort(values[rows], kind="stable")]
    chosen = [*order[::-1][:n].tolist(), *order[:n].tolist()]
    return tuple((row,) for row in dict.fromkeys(chosen))


def _across(cells: CellTable, pairs: Sequence[DuplicatePair]) -> list[DuplicatePair]:
    return [p for p in pairs if cells.groups[p.first] != cells.groups[p.second]]


def _rows(pairs: Iterable[DuplicatePair]) -> tuple[tuple[int, ...], ...]:
    return tuple((p.first, p.second) for p in pairs)


def _where(flags: np.ndarray) -> list[int]:
    return [int(r) for r in np.flatnonzero(flags)]
