"""The API against its own OpenAPI document, by a tester that draws requests from it: good ones, and wrong ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from support.paths import ROOT

pytest.importorskip("flask", reason="the extra 'web' is not installed")
pytest.importorskip("schemathesis", reason="the extra 'dev' is not installed")

import schemathesis
from hypothesis import HealthCheck, Phase, settings, strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from cervicyte.web.accounts import api_tokens
from cervicyte.web.api.endpoints import ENDPOINTS, IMAGES
from cervicyte.web.api.openapi import document
from cervicyte.web.app import create_app
from cervicyte.web.cases import cases
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.engine.workers import ImageWorkers
from cervicyte.web.middleware.current import Running
from cervicyte.web.reading import verdicts
from support.web.cases import case_with, rows
from support.web.client import cell, small_bundle
from support.web.site import make_site, make_user

DOCUMENT = ROOT / "docs" / "openapi.json"
#: Whether a picture or a verdict can be used, and whether there is anything to export, no schema can say.
UNSAID = ("new_job", "upload", "predict", "review", "export_cells")


class Later:
    """An application that is there when the tests run, for a schema that is read when they are collected."""

    app: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self.app(environ, start_response)


SERVED = Later()
SCHEMA = schemathesis.openapi.from_dict(document())
SCHEMA.app = SERVED
for kind in IMAGES:  # half of the bodies are images
    schemathesis.openapi.media_type(kind, st.sampled_from([cell(1), cell(2, "BMP")]) | st.binary(max_size=64))

few = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: Any) -> Iterator[SimpleNamespace]:
    """A laboratory with a model that answers, the token of a reader, and what can stand in the paths."""
    site = make_site(tmp_path_factory.mktemp("openapi") / "data")
    user = make_user(site)
    token = api_tokens.make(site, user.id, "test").text
    with (
        Predictor(small_bundle(tmp_path_factory.mktemp("model") / "bundle"), workers=2) as predictor,
        ImageWorkers(site, predictor) as workers,
    ):
        made = case_with(site, user, 3)
        workers.wake()
        end = time.monotonic() + 20
        while cases.get(site, user, made.number).waiting:
            assert time.monotonic() < end, "never done"
            time.sleep(0.02)
        image = rows(site, made.number)[0].id
        verdicts.decide(site, user, image, "HSIL", "a comment")
        SERVED.app = create_app(Running(site=site, predictor=predictor, workers=workers, max_upload_mb=2))
        SERVED.app.testing = False  # errors are answered, as they are for users
        yield SimpleNamespace(token=token, arguments={"number": made.number, "id": image})
    assert site.audit_log.verify(site.database).ok
    site.database.close()


@SCHEMA.parametrize()
@few
def test_the_api_does_what_its_document_says(case: Any, lab: Any) -> None:
    _check(case, lab)


@SCHEMA.include(path_regex="{").exclude(method="DELETE").parametrize()
@few
def test_it_does_so_with_cases_and_cells_that_are_there(case: Any, lab: Any) -> None:
    case.path_parameters = {name: lab.arguments[name] for name in case.path_parameters}
    _check(case, lab)


def _check(case: Any, lab: Any) -> None:
    excluded = [positive_data_acceptance] if case.operation.definition.raw["operationId"] in UNSAID else []
    case.call_and_validate(headers={"Authorization": f"Bearer {lab.token}"}, excluded_checks=excluded)


def test_what_is_there_is_answered_and_has_all_that_its_schema_names(lab: Any) -> None:
    client, schemas = SERVED.app.test_client(), document()["components"]["schemas"]
    sent = {"Authorization": f"Bearer {lab.token}"}
    made = client.post(f"/api/v1/cells/{lab.arguments['id']}/reviews", json={"verdict": "HSIL"}, headers=sent)
    assert made.status_code == 201  # whatever the tester said of it
    for row in ENDPOINTS:
        if row.method != "GET" or row.name in ("map", "document"):
            continue
        path = "/api/v1" + row.path.format(**lab.arguments)
        answer = client.get(path, headers=sent)
        assert answer.status_code == row.answer.status, path
        assert answer.mimetype in row.answer.media_types
        if row.answer.schema:
            assert set(answer.json) == set(schemas[row.answer.schema["$ref"].rpartition("/")[2]]["properties"]), path


def test_the_document_is_valid_openapi() -> None:
    SCHEMA.validate()
    names = [row.name for row in ENDPOINTS]
    assert len(set(names)) == len(names)


def test_the_document_in_the_docs_is_the_one_that_is_served(lab: Any) -> None:
    served = SERVED.app.test_client().get("/api/v1/openapi.json").json
    assert served == json.loads(DOCUMENT.read_text()), "run python docs/write_reference.py"
