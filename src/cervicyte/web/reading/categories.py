"""The Bethesda categories that a reader chooses from, and how severe an answer is.

Severity is shown by a word, a shape and a colour, never by colour alone; the shapes are symbols of
``static/icons.svg`` with the severity's name.
"""

from __future__ import annotations

from dataclasses import dataclass

from cervicyte.bundle.predictions import UNSATISFACTORY


@dataclass(frozen=True)
class Severity:
    """How much an answer matters to the woman whose cell it is: a name for classes and symbols, and words."""

    name: str
    words: str


SEVERITIES: tuple[Severity, ...] = (
    Severity("normal", "normal"),
    Severity("low", "low grade"),
    Severity("high", "high grade"),
    Severity("cancer", "carcinoma"),
    Severity("abnormal", "abnormal"),
    Severity("uncertain", "uncertain"),
    Severity(UNSATISFACTORY, "unsatisfactory"),
    Severity("ungraded", "not graded"),
)

_BY_NAME = {row.name: row for row in SEVERITIES}


@dataclass(frozen=True)
class Category:
    """One row: the category's code, its words, the name of its severity, and the key that chooses it."""

    code: str
    words: str
    severity: str
    key: str


#: The squamous categories in the order of `cervicyte.data.labels.BETHESDA`, then the glandular one, which no label
#: system of this package has but which a reader may meet (Nayar and Wilbur 2015, The Bethesda System).
CATEGORIES: tuple[Category, ...] = (
    Category("NILM", "Negative for intraepithelial lesion or malignancy", "normal", "1"),
    Category("ASC-US", "Atypical squamous cells of undetermined significance", "low", "2"),
    Category("LSIL", "Low-grade squamous intraepithelial lesion", "low", "3"),
    Category("ASC-H", "Atypical squamous cells, HSIL cannot be excluded", "high", "4"),
    Category("HSIL", "High-grade squamous intraepithelial lesion", "high", "5"),
    Category("SCC", "Squamous cell carcinoma", "cancer", "6"),
    Category("AGC", "Atypical glandular cells", "high", "7"),
)

_BY_CODE = {row.code: row for row in CATEGORIES}


def find_category(code: str | None) -> Category | None:
    """The category of a code; None where it is no Bethesda category.

    >>> find_category("HSIL").words
    'High-grade squamous intraepithelial lesion'
    """
    return None if code is None else _BY_CODE.get(code)


def severity(label: str | None, bethesda: str | None = None, flagged: bool | None = None) -> Severity:
    """How severe an answer is.

    Parameters
    ----------
    label : a class of the model, "uncertain", "unsatisfactory", or a reader's verdict
    bethesda : the category that the class belongs to, where a map says so
    flagged : the cell is at or above the operating point; None where that is not defined

    >>> severity("severe_dysplastic", "HSIL", True).words
    'high grade'
    >>> severity("Koilocytotic", None, True).words
    'abnormal'
    """
    if label in ("uncertain", UNSATISFACTORY):
        return _BY_NAME[label]
    category = find_category(bethesda) or find_category(label)
    if category is not None:
        return _BY_NAME[category.severity]
    return _BY_NAME["ungraded" if flagged is None else "abnormal" if flagged else "normal"]
