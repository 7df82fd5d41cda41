"""What an audit gives: findings by their gravity, and the duplicates and probes on which they rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cervicyte.audit import artefacts
from cervicyte.audit.duplicates import DuplicatePair

#: Severities from harmless to grave, with what they ask for.
SEVERITIES: dict[str, str] = {
    "info": "good to know; nothing to mend",
    "warning": "look at it before you trust a number",
    "error": "numbers made from this data as it is would be wrong",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the audit found.

    Attributes
    ----------
    check : short name of the check
    severity : one of `SEVERITIES`
    count : how many cells, pairs or groups it concerns
    message : one or two plain sentences
    examples : rows concerned, one tuple each (two rows for a pair), the most telling first
    details : more, in plain JSON values
    """

    check: str
    severity: str
    count: int
    message: str
    examples: tuple[tuple[int, ...], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All findings on a table, the gravest first, and the duplicate pairs they rest on."""

    name: str
    n: int
    findings: tuple[Finding, ...]
    pairs: tuple[DuplicatePair, ...]
    probes: tuple[artefacts.Probe, ...] = ()

    @property
    def worst(self) -> str:
        """The gravest severity found; "info" where nothing was."""
        order = list(SEVERITIES)
        return max((f.severity for f in self.findings), key=order.index, default="info")

    def summary(self) -> dict[str, Any]:
        """The findings without their examples, for reports."""
        return {"findings": [{"check": f.check, "severity": f.severity, "message": f.message} for f in self.findings]}

    def find(self, check: str) -> Finding | None:
        """The finding of a check, or None."""
        return next((f for f in self.findings if f.check == check), None)
