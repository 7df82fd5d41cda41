"""Cases with pictures and predictions for tests of what is made of them; written past the upload and the engine."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from PIL import Image as Pillow

from cervicyte.web.base.schema import Image, PredictionRow, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import cases, second_readers
from cervicyte.web.cases.cases import CaseSummary

MODEL = "a" * 64
CLASSES = {"NILM": "normal_superficiel", "LSIL": "light_dysplastic", "HSIL": "severe_dysplastic"}


def png(seed: int) -> bytes:
    """A small picture, another for each number."""
    stream = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 20, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def make_case(
    site: Site, owner: User, scores: Sequence[float | None], name: str = "cell"
) -> tuple[CaseSummary, list[str]]:
    """A case whose pictures have these P(abnormal), None for one that waits; the pictures' ids by their order."""
    case = cases.create(site, owner, "A 12", "from the left")
    found = []
    for k, p in enumerate(scores):
        data = png(k)
        with site.database.write() as session:
            image = Image(
                case_id=case.id,
                position=k + 1,
                name=f"{name}-{k + 1}.png",
                sha256=site.image_store.put(data),
                media_type="image/png",
                width=20,
                height=24,
                size=len(data),
                state="waiting" if p is None else "done",
                created_at=site.clock(),
            )
            session.add(image)
            session.flush()
            found.append(image.id)
        if p is not None:
            predict(site, image.id, p)
    return case, found


def predict(site: Site, image_id: str, p: float, at: datetime | None = None, label: str = "") -> None:
    """A model's answer: NILM below 0.3, LSIL below 0.7, else HSIL, or another label."""
    category = "NILM" if p < 0.3 else "LSIL" if p < 0.7 else "HSIL"
    with site.database.write() as session:
        session.add(
            PredictionRow(
                image_id=image_id,
                model_sha256=MODEL,
                model_name="a network",
                label=label or CLASSES[category],
                bethesda="" if label else category,
                p_abnormal=p,
                operating_point=0.3,
                uncertain=label == "uncertain",
                quality="good",
                probabilities=None if label == "unsatisfactory" else {c: 1 / 3 for c in CLASSES.values()},
                created_at=at or site.clock(),
            )
        )


def give_second(site: Site, owner: User, case: CaseSummary, reader: User, blinded: bool = True) -> None:
    """A second reader for a case."""
    second_readers.assign(site, owner, case.number, reader.id, blinded)
