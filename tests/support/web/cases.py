"""Cases with cells for tests of the web application: a small bundle, pictures, answers that a test makes up."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from sqlalchemy import select

from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import measurements_graph
from cervicyte.bundle.predictions import Prediction
from cervicyte.data.labels import HERLEV
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.images import morphology
from cervicyte.web.base.schema import Case, Image, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import cases, intake
from cervicyte.web.cases.answers import Answer, store
from cervicyte.web.cases.cases import CaseSummary
from support.generated_cells import make_cell

CLASSES = HERLEV.classes


def small_bundle(folder: Path) -> Bundle:
    """A model on measurements with Herlev's classes, its weights drawn."""
    random = np.random.default_rng(0)
    width = len(morphology.NAMES)
    head = LinearHead(
        random.normal(size=(width, len(CLASSES))) * 0.01,
        np.zeros(len(CLASSES)),
        1.0,
        np.abs(random.normal(size=width)),
    )
    spec = InputSpec("measurements", measurements=tuple(morphology.NAMES))
    manifest = Manifest("small", HERLEV, CLASSES, limits=LIMITS, input=spec, precision="float32")
    return save_bundle(folder, manifest, measurements_graph(head, 1.5))


LIMITS = DecisionLimits(
    threshold=0.3, sensitivity=0.95, normal_below=0.1, abnormal_from=0.8, confidence_from=0.0, max_risk=0.05
)


def picture(seed: int, kind: str = "PNG", side: int = 72) -> bytes:
    """A generated cell, encoded."""
    buffer = io.BytesIO()
    Pillow.fromarray(make_cell(seed, side)).save(buffer, kind)
    return buffer.getvalue()


def case_with(site: Site, user: User, count: int, first: int = 0, side: int = 72, **fields: str) -> CaseSummary:
    """A case with generated cells that wait."""
    case = cases.create(site, user, **fields)
    files = [(f"cell-{i}.png", picture(i, side=side)) for i in range(first, first + count)]
    assert intake.upload(site, user, case.number, files).accepted == count
    return cases.get(site, user, case.number)


def rows(site: Site, number: str) -> list[Image]:
    """The pictures of a case by position."""
    with site.database.read() as session:
        of_case = select(Image).join(Case, Case.id == Image.case_id).where(Case.number == number)
        return list(session.scalars(of_case.order_by(Image.position)))


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what other threads do."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def says(label: str, p: float | None, uncertain: bool = False, quality: str = "good", bethesda: str = "") -> Prediction:
    """An answer of a model with Herlev's classes."""
    probabilities = () if p is None else tuple(np.full(len(CLASSES), 1 / len(CLASSES)))
    return Prediction("", label, probabilities, p, None, uncertain, quality=quality, bethesda=bethesda)


def answer(site: Site, bundle: Bundle, number: str, said: Sequence[Prediction | str | None]) -> None:
    """Store answers for a case's pictures by position: a prediction, why there is none, or None to let it wait."""
    answers = [
        Answer(image, reason=what) if isinstance(what, str) else Answer(image, what)
        for image, what in zip(rows(site, number), said, strict=False)
        if what is not None
    ]
    store(site, bundle, answers)


def review(site: Site, user: User, image_id: str, verdict: str, reading: str = "first", agrees: bool = False) -> None:
    """A verdict as it is stored."""
    with site.database.write() as session:
        session.add(
            VerdictRow(
                image_id=image_id,
                reader_id=user.id,
                reading=reading,
                verdict=verdict,
                agrees=agrees,
                comment="",
                created_at=site.clock(),
            )
        )
