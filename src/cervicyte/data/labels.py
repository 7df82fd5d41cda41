"""Label systems of cervical cytology and the named maps between them.

A label system is an ordered tuple of classes, and says which of them are abnormal.
A map takes each class of one system to a class of another. Both are rows of explicit
tables: listings, help and documentation derive from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cervicyte.data.spelling import label_key, label_twins
from cervicyte.errors import DataError, UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class LabelSystem:
    """An ordered set of classes.

    Attributes
    ----------
    name : short name, used on the command line and in manifests
    classes : class names in their fixed order (the order of all probability columns)
    abnormal : the abnormal ones; None when nobody has said which are
    graded : True where the order is one of increasing severity (for weighted kappa)
    aliases : other spellings, in lower case, that readers accept
    source : where the system comes from
    """

    name: str
    classes: tuple[str, ...]
    abnormal: frozenset[str] | None
    graded: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if self.abnormal is not None and not self.abnormal <= set(self.classes):
            unknown = ", ".join(sorted(self.abnormal - set(self.classes)))
            raise DataError("abnormal classes that are not classes", unknown, f"classes: {', '.join(self.classes)}")

    def canonical(self, label: str) -> str:
        """Return the class that a label names, whatever its case, spaces, dashes or known spelling.

        Marks that may change what a label means ("HSIL?", "ASC-US+") are no spelling: such a label is unknown.

        Raises
        ------
        DataError : the label is not one of this system
        """
        if label in self.classes:
            return label
        key = label_key(label)
        for name in self.classes:
            if label_key(name) == key != "":
                return name
        for alias, name in self.aliases.items():
            if label_key(alias) == key != "":
                return name
        hint = did_you_mean(label, self.classes, cutoff=0.5)
        raise DataError(
            f"label unknown to the label system {self.name!r}", repr(label), f"{hint}it has: {', '.join(self.classes)}"
        )

    def to_json(self) -> dict[str, object]:
        """A plain form for manifests; `from_json` reads it back."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "abnormal": None if self.abnormal is None else [c for c in self.classes if c in self.abnormal],
            "graded": self.graded,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> LabelSystem:
        """Read the form that `to_json` wrote; raises DataError if it is not of that form."""
        try:
            classes = tuple(str(c) for c in value["classes"])  # type: ignore[attr-defined]
            raw = value["abnormal"]
            abnormal = None if raw is None else frozenset(str(c) for c in raw)  # type: ignore[attr-defined]
            return cls(name=str(value["name"]), classes=classes, abnormal=abnormal, graded=bool(value["graded"]))
        except (KeyError, TypeError) as error:
            raise DataError("not a label system", value, "write name, classes, abnormal and graded") from error


HERLEV = LabelSystem(
    name="herlev",
    classes=(
        "normal_superficiel",
        "normal_intermediate",
        "normal_columnar",
        "light_dysplastic",
        "moderate_dysplastic",
        "severe_dysplastic",
        "carcinoma_in_situ",
    ),
    abnormal=frozenset({"light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"}),
    graded=True,
    aliases={"normal_superficial": "normal_superficiel", "normal_intermediate": "normal_intermediate"},
    source="Jantzen et al. 2005, Pap-smear benchmark data for pattern classification",
)

SIPAKMED = LabelSystem(
    name="sipakmed",
    classes=("Superficial-Intermediate", "Parabasal", "Koilocytotic", "Dyskeratotic", "Metaplastic"),
    abnormal=frozenset({"Koilocytotic", "Dyskeratotic"}),
    aliases={"im_" + c: c for c in ("Parabasal", "Koilocytotic", "Dyskeratotic", "Metaplastic")}
    | {"im_Superficial-Intermediate": "Superficial-Intermediate", "Superficial": "Superficial-Intermediate"},
    source="Plissiti et al. 2018, 10.1109/ICIP.2018.8451588 (Metaplastic: benign, as in the clinic)",
)

BETHESDA = LabelSystem(
    name="bethesda",
    classes=("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"),
    abnormal=frozenset({"ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"}),
    graded=True,
    aliases={
        "Negative for intraepithelial lesion": "NILM",
        "Negative for Intraepithelial malignancy": "NILM",
        "NL": "NILM",
        "Low squamous intra-epithelial lesion": "LSIL",
        "High squamous intra-epithelial lesion": "HSIL",
        "Squamous cell carcinoma": "SCC",
        "CA": "SCC",
        "carcinoma": "SCC",
    },
    source="The Bethesda System for Reporting Cervical Cytology, 2014",
)

BINARY = LabelSystem(
    name="binary",
    classes=("normal", "abnormal"),
    abnormal=frozenset({"abnormal"}),
    graded=True,
    source="normal or abnormal, nothing finer",
)

SYSTEMS: tuple[LabelSystem, ...] = (HERLEV, SIPAKMED, BETHESDA, BINARY)


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """A named map from each class of one system to a class of another."""

    name: str
    origin: LabelSystem
    target: LabelSystem
    table: Mapping[str, str]
    note: str = ""

    def __post_init__(self) -> None:
        if set(self.table) != set(self.origin.classes) or not set(self.table.values()) <= set(self.target.classes):
            todo = f"map each of {', '.join(self.origin.classes)} to one of {', '.join(self.target.classes)}"
            raise UsageError(f"the map {self.name!r} does not cover its systems", dict(self.table), todo)

    def __call__(self, labels: Iterable[str]) -> list[str]:
        """Map labels; an unknown one raises DataError."""
        return [self.table[self.origin.canonical(label)] for label in labels]


def _to_binary(system: LabelSystem, name: str = "", abnormal: frozenset[str] | None = None, note: str = "") -> LabelMap:
    abnormal = system.abnormal if abnormal is None else abnormal
    assert abnormal is not None
    table = {c: "abnormal" if c in abnormal else "normal" for c in system.classes}
    return LabelMap(name=name or f"{system.name}-to-binary", origin=system, target=BINARY, table=table, note=note)


MAPS: tuple[LabelMap, ...] = (
    _to_binary(HERLEV),
    _to_binary(BETHESDA),
    _to_binary(SIPAKMED, "sipakmed-to-binary-clinical", note="Metaplastic cells are benign, as in the clinic"),
    _to_binary(
        SIPAKMED,
        "sipakmed-to-binary-published",
        frozenset({"Koilocytotic", "Dyskeratotic", "Metaplastic"}),
        "Metaplastic counted as abnormal, as system B did",
    ),
    LabelMap(
        name="herlev-to-bethesda",
        origin=HERLEV,
        target=BETHESDA,
        table={
            "normal_superficiel": "NILM",
            "normal_intermediate": "NILM",
            "normal_columnar": "NILM",
            "light_dysplastic": "LSIL",
            "moderate_dysplastic": "HSIL",
            "severe_dysplastic": "HSIL",
            "carcinoma_in_situ": "HSIL",
        },
    ),
)


def get_map(name: str) -> LabelMap:
    """Return a label map by name; an unknown one is answered with those that exist.

    >>> get_map("sipakmed-to-binary-clinical")(["Metaplastic", "Koilocytotic"])
    ['normal', 'abnormal']
    >>> get_map("sipakmed-to-binary-published")(["Metaplastic"])
    ['abnormal']
    """
    for row in MAPS:
        if row.name == name:
            return row
    names = [row.name for row in MAPS]
    raise UsageError("unknown label map", repr(name), f"{did_you_mean(name, names)}there are: {', '.join(names)}")


def find_map(origin: LabelSystem, target: str) -> LabelMap:
    """The first map from a system to a target system, or one made from its abnormal classes."""
    for row in MAPS:
        if row.origin.name == origin.name and row.target.name == target:
            return row
    if target == BINARY.name and origin.abnormal is not None:
        return _to_binary(origin)
    known = [m.name for m in MAPS if m.origin.name == origin.name]
    raise UsageError(
        f"no map from {origin.name!r} to {target!r}",
        f"--target {target}",
        f"maps from here: {', '.join(known) or 'none; name the normal classes with --normal'}",
    )


def custom_system(labels: Iterable[str], normal: Iterable[str] = (), name: str = "custom") -> LabelSystem:
    """The label system of a user's own class names, in sorted order.

    If all the labels belong to a known system that system is returned, so that a folder
    named after the Herlev classes keeps their order and meaning.

    Raises
    ------
    DataError : a class given as normal is not among the labels
    """
    present = sorted(set(labels))
    normal = list(normal)
    if not normal:
        for system in SYSTEMS:
            try:
                if present and {system.canonical(label) for label in present}:
                    return system
            except DataError:
                continue
        return LabelSystem(name=name, classes=tuple(present), abnormal=None)
    unknown = sorted(set(normal) - set(present))
    if unknown:
        raise DataError("normal classes that no cell has", ", ".join(unknown), f"classes: {', '.join(present)}")
    torn = [family for family in label_twins(present) if len({name in normal for name in family}) > 1]
    if torn:
        raise DataError(
            "classes that differ by their spelling only, some named as normal and some not",
            "; ".join(" and ".join(map(repr, family)) for family in torn),
            "spell the class in one way, or name all of its spellings with --normal",
        )
    first = [c for c in present if c in normal]
    rest = [c for c in present if c not in normal]
    return LabelSystem(name=name, classes=tuple(first + rest), abnormal=frozenset(rest))
