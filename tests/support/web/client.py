"""Browsers without a browser: the application's test client, with the forms' tokens taken from the pages it gets."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from PIL import Image

from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import measurements_graph
from cervicyte.data.labels import BINARY
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.images import morphology
from support.generated_cells import make_cell
from support.web.site import HERE, PASSWORD

ROOT = "https://lab.example"


def small_bundle(folder: Any) -> Bundle:
    """A bundle on measurements with numbers drawn from a seed: it answers at once, and means nothing."""
    d = len(morphology.NAMES)
    random = np.random.default_rng(0)
    head = LinearHead(random.normal(size=(d, 2)) * 0.01, np.zeros(2), 1.0, np.abs(random.normal(size=d)))
    spec = InputSpec("measurements", measurements=tuple(morphology.NAMES))
    limits = DecisionLimits(
        threshold=0.3, sensitivity=0.95, normal_below=0.1, abnormal_from=0.8, confidence_from=0.0, max_risk=0.05
    )
    manifest = Manifest("small", BINARY, BINARY.classes, limits=limits, input=spec, precision="float32")
    return save_bundle(folder, manifest, measurements_graph(head, 1.5))


def cell(seed: int, kind: str = "PNG") -> bytes:
    """A generated cell as a file."""
    out = io.BytesIO()
    Image.fromarray(make_cell(seed, 96)).save(out, kind)
    return out.getvalue()


class Person:
    """One browser; its requests carry what a browser's would."""

    def __init__(self, app: Any, address: str = HERE, root: str = ROOT) -> None:
        self.client, self.address, self.root = app.test_client(), address, root

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(
            path, base_url=self.root, headers=headers, environ_overrides={"REMOTE_ADDR": self.address}
        )

    def token(self) -> str:
        """The CSRF token of the pages that this browser sees."""
        for path in ("/account", "/sign-in"):
            found = re.search(r'<meta name="csrf" content="([^"]+)"', self.get(path).text)
            if found:
                return found[1]
        raise AssertionError("no page with a token")

    def post(self, path: str, form: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> Any:
        """A form of a page; without a token where the form says so with csrf=None."""
        data = {"csrf": self.token()} | (form or {})
        return self.client.post(
            path,
            base_url=self.root,
            data={k: v for k, v in data.items() if v is not None},
            headers={"Origin": self.root} | (headers or {}),
            environ_overrides={"REMOTE_ADDR": self.address},
        )

    def sign_in(self, email: str, password: str = PASSWORD, **form: str) -> Any:
        return self.post("/sign-in", {"email": email, "password": password} | form)

    def upload(self, number: str, *files: tuple[str, bytes], headers: dict[str, str] | None = None) -> Any:
        images = [(io.BytesIO(data), name) for name, data in files]
        return self.post(f"/cases/{number}/images", {"images": images}, headers)
