"""What the numbers of an evaluation say, as plain sentences."""

from __future__ import annotations

import numpy as np

from cervicyte.evaluation import intervals, metrics
from cervicyte.evaluation.results import Evaluation, Predictions
from cervicyte.evaluation.wording import percent, text


def verdict(evaluation: Evaluation) -> list[str]:
    """What the numbers say, as plain sentences: where it was tested, what it finds, misses and does not answer."""
    p, m = evaluation.predictions, evaluation.metrics
    binary, native, unsure = m["binary"], m["native"], m["uncertain"]
    sentences = []
    where = _where(p)
    if binary and "sensitivity_as_used" in binary:
        sentences.append(
            f"{where}, it calls {text(binary['sensitivity_as_used'])} of abnormal cells abnormal and "
            f"{text(binary['specificity_as_used'])} of normal ones normal; it gives a verdict for "
            f"{text(unsure['coverage'])} of cells, and one without a verdict counts as not found."
        )
        sentences.append(
            f"Among the cells with a verdict, {text(binary['sensitivity_answered'])} of abnormal ones are called "
            f"abnormal. Its operating point flags {text(binary['sensitivity'])} of all abnormal cells, answered or "
            f"not, and leaves {text(binary['specificity'])} of normal ones."
        )
        if binary["ppv"]["value"] is not None:
            sentences.append(
                f"Where {percent(m['prevalence'])} of cells are abnormal, {text(binary['ppv'])} of the cells it "
                f"flags would be abnormal."
            )
    elif binary:
        sentences.append(
            f"{where}, it tells normal from abnormal with an AUROC of {text(binary['auroc'], '')}; no operating "
            f"point was set."
        )
    if not metrics.is_binary(p):
        start = "It" if sentences else f"{where}, it"
        sentences.append(
            f"{start} names the right one of {len(p.classes)} classes for {text(native['accuracy'])} of cells."
        )
    if not (binary and "sensitivity_as_used" in binary) and (unsure["coverage"]["value"] or 1) < 1:
        sentences.append(f"It declares itself unsure of {percent(1 - unsure['coverage']['value'])} of cells.")
    quality = m.get("quality")
    if quality and quality["refused"]["value"]:
        why = ", ".join(f"{count} {reason}" for reason, count in quality["reasons"].items())
        sentences.append(f"It refuses {text(quality['refused'])} of these cells, whose images it cannot judge: {why}.")
    if unsure.get("abnormal"):
        missed, unmarked = unsure["abnormal_below_threshold"], unsure["abnormal_answered_normal"]
        sentences.append(
            f"Of {unsure['abnormal']} abnormal cells, {missed} fall below the threshold, {unmarked} of them without "
            f"being marked as uncertain."
        )
    if (fewest := _fewest_groups(p)) < intervals.FEWEST_GROUPS:
        sentences.append(
            f"These cells come from {fewest} group{'s' if fewest > 1 else ''}: how sure the numbers are for further "
            f"slides cannot be said, so they stand without intervals."
        )
    return sentences


def _fewest_groups(p: Predictions) -> int:
    """Groups of cells, or of the kind of cell that comes from fewer."""
    kinds = [np.ones(len(p), dtype=bool)] if p.abnormal is None else [p.abnormal, ~p.abnormal]
    return min(len(set(p.groups[rows])) for rows in kinds if rows.any())


def _where(p: Predictions) -> str:
    own = len(set(p.groups)) == len(set(zip(p.paths, p.boxes, strict=True)))
    if p.protocol == "random":
        return "On cells whose siblings it was trained on"
    if p.protocol == "as-published":
        return "On cells whose copies it was trained on"
    start = "On another data set" if p.protocol == "external" else "On cells of groups that it had not seen"
    return "On cells that it had not seen, their slides unknown" if own and p.protocol == "grouped" else start
