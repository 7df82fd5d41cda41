"""The model card that lies in every bundle: what the model is for, how good it is, and what it must not be used for.

After Mitchell et al. 2019, Model cards for model reporting, FAT*. All numbers come from the manifest; nothing is
written here that the run did not measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cervicyte.bundle.manifest import Manifest
from cervicyte.evaluation.summary import rows


def model_card(manifest: Manifest) -> str:
    """The card in Markdown."""
    scores, training = manifest.scores, manifest.training
    parts = [f"# {manifest.name}", _lead(scores)]
    warnings = training.get("warnings", ())
    if warnings:
        parts.append("## Warnings\n\n" + "\n".join(f"- **{warning}**" for warning in warnings))
    parts += [
        "## What it is for\n\n"
        "Sorting pictures of single cervical cells, in research and teaching, so that a person looks at the most "
        "suspicious first. It names one of the classes below, or says that it does not know.",
        "## What it is not for\n\n"
        "- Diagnosis. No cell, slide or patient may be called healthy because of it, and it is no medical device.\n"
        "- Whole fields of view, tissue, other stains, or cells of a kind of preparation that it was not trained on.\n"
        "- Counting how common a disease is: the shares of classes in the training data are not those of a population.",
        _classes(manifest),
        _compressed(training),
        _numbers(scores),
        _limits(manifest),
        _made(training),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _lead(scores: Mapping[str, Any]) -> str:
    protocol = scores.get("protocol")
    if protocol is None:
        return "How good it is was not measured."
    if protocol == "as-published":
        return (
            f"Judged on {scores.get('n', '?')} images under the protocol `as-published`, which leaks: copies of the "
            "test cells were trained on. The model in this folder was fitted on the original cells and never judged."
        )
    return (
        f"Judged on {scores.get('n', '?')} cells of {scores.get('groups', '?')} groups under the protocol "
        f"`{protocol}`: each cell by a model that was fitted without the cells of its fold. The model in this folder "
        "was then fitted on all of them by the same recipe, and was never judged itself."
    )


def _classes(manifest: Manifest) -> str:
    system = manifest.system
    lines = []
    for name in manifest.classes:
        kind = "" if system.abnormal is None else ", abnormal" if name in system.abnormal else ", normal"
        lines.append(f"- `{name}`{kind}")
    return f"## Classes ({system.name})\n\n" + "\n".join(lines)


def _numbers(scores: Mapping[str, Any]) -> str:
    numbers = rows(scores)
    if not numbers:
        return ""
    lines = ["| | value (95 % interval over groups) |", "| --- | --- |"]
    lines += [f"| {words} | {text} |" for words, text in numbers]
    uncertain = scores.get("uncertain", {})
    sentences = []
    for name, words in (("coverage", "of the cells are answered"), ("binary_error", "of these are wrong")):
        value = (uncertain.get(name) or {}).get("value")
        if value is not None:
            sentences.append(f"{value:.1%} {words}")
    return "## How good it is\n\n" + "\n".join(lines) + (f"\n\n{'; '.join(sentences)}." if sentences else "")


def _compressed(training: Mapping[str, Any]) -> str:
    made = training.get("compressed")
    if not made:
        return ""
    cost = f" What 8 bits cost, {made['cost']}." if "cost" in made else ""
    return (
        "## What its numbers are\n\n"
        "This is an 8-bit version, which was not judged itself: the numbers below, the operating point and the band "
        f"are those of the network that it was made from, as measured in {made['precision']}. On {made['images']} "
        "training images that did not set the ranges of its integers, its probabilities differ from that network's "
        f"in float32 by {made['mean']:.4f} on average and {made['largest']:.3f} at most, and {made['same_class']:.1%} "
        f"keep their most probable class.{cost} {_arithmetic(made.get('weight_bits', 8))}"
    )


def _arithmetic(bits: int) -> str:
    """On which processors the integers are computed as they are meant."""
    if bits <= 7:
        return f"Its weights have {bits} bits, so that no processor's integer arithmetic cuts a sum."
    return (
        "Its weights have 8 bits: on processors with AVX2 and without VNNI, sums of products are cut to 16 bits, and "
        "its answers differ from those described here (`cervicyte doctor` says what this processor has)."
    )


def _limits(manifest: Manifest) -> str:
    limits = manifest.limits
    lines = []
    if limits.threshold is not None:
        lines.append(
            f"- Flagged from P(abnormal) = {limits.threshold:.3f} on, set for {limits.sensitivity:.0%} sensitivity, "
            + (
                "on average over training sets: not promised."
                if limits.confidence is None
                else f"kept on new cells like those of the training set with {limits.confidence:.0%} confidence."
            )
        )
        low = "never" if limits.normal_below <= 0 else f"below P(abnormal) = {limits.normal_below:.3f}"
        high = "never" if limits.abnormal_from > 1 else f"from {limits.abnormal_from:.3f} on"
        lines.append(
            f"- Called normal {low} and abnormal {high}; `uncertain` between, set so that at most "
            f"{limits.max_risk:.0%} of the answers are wrong."
        )
    if manifest.quality is not None:
        lines.append("- A picture unlike the training cells gets no verdict (`unsatisfactory`, with a reason).")
    return "## When it does not answer\n\n" + "\n".join(lines) if lines else ""


def _made(training: Mapping[str, Any]) -> str:
    facts = training.get("facts", {})
    if not facts:
        return ""
    return "## How it was made\n\n| | |\n| --- | --- |\n" + "\n".join(
        f"| {_cell(k)} | {_cell(v)} |" for k, v in facts.items()
    )


def _cell(text: object) -> str:
    """A table's cell: a name of a data set may hold what would end it."""
    return str(text).replace("|", "\\|").replace("\n", " ")
