"""An invented but likely context for every template of the web application, as `cervicyte.web.pages` documents them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

import cervicyte
from cervicyte.web.pages import ROUTES
from cervicyte.web.pages.environment import prepare

WEB = Path(cervicyte.__file__).parent / "web"
NOW = datetime(2026, 3, 12, 14, 5, tzinfo=UTC)
SHA = "9f2c1e7ab04d5c3388e1f0a6d2b7c94e5f60718293a4b5c6d7e8f90123456789"

#: Pages shown in more than one state: name of the picture, template, and what differs from `contexts`.
VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("register_ask", "register.html", {"step": "ask", "by_code": True}),
    ("register_closed", "register.html", {"step": "closed"}),
    ("reset_finish", "reset.html", {"step": "finish"}),
    ("reset_link", "reset.html", {"step": "link"}),
    ("reset_no_mail", "reset.html", {"mail": False}),
    ("case_table", "case.html", {"view": "table"}),
    ("reading_closed", "reading.html", {"closed": True, "can_undo": False}),
    ("reading_for_others", "reading.html", {"for_others": True, "can_undo": False, "may": {"report", "see_all"}}),
    ("error_503", "error.html", {"status": 503, "retry_after": 12, "what": "", "todo": ""}),
    ("error_500", "error.html", {"status": 500, "what": "", "todo": "", "user": None}),
    ("account_on", "account.html", {"second_factor": True, "new_token": None}),
)


class Undefined(jinja2.StrictUndefined):
    """A template that reads what is not documented fails the test."""


def environment() -> jinja2.Environment:
    """Jinja as the application sets it up, with addresses from `ROUTES`."""
    found = jinja2.Environment(loader=jinja2.FileSystemLoader(WEB / "templates"), autoescape=True, undefined=Undefined)
    prepare(found)
    found.globals["url_for"] = url_for
    return found


def url_for(endpoint: str, **values: Any) -> str:
    """An address as Flask makes it; KeyError for an endpoint that `ROUTES` lacks."""
    rule = {route.endpoint: route.rule for route in ROUTES}[endpoint]
    for part in re.findall(r"<[^>]*>", rule):
        rule = rule.replace(part, quote(str(values.pop(part.strip("<>").split(":")[-1])), safe="/"))
    return rule + ("?" + urlencode(values) if values else "")


def contexts(say: Callable[[str], str] = lambda text: text) -> dict[str, dict[str, Any]]:
    """Template to context; ``say`` goes over every text that a user or a file may have chosen."""
    chance = random.Random(5)

    def at(days: float) -> datetime:
        return NOW - timedelta(days=days)

    def case(number: str, images: int, **other: Any) -> dict[str, Any]:
        row = {
            "number": number,
            "accession": say("C26-" + number[2:6]),
            "notes": say("Liquid-based, Papanicolaou.\nASC-US last year."),
            "owner": say("First Reader"),
            "created_at": at(0.2),
            "state": "open",
            "second_reader": None,
            "second_reader_id": None,
            "blinded": False,
            "images": images,
            "done": images,
            "waiting": 0,
            "failed": 0,
            "decided": 0,
            "abnormal": 0,
            "uncertain": 0,
            "unsatisfactory": 0,
            "blind": False,
        }
        return row | other

    def cell(position: int, label: str, bethesda: str | None, p: float | None, **other: Any) -> dict[str, Any]:
        row = {
            "id": f"{position:032x}",
            "name": say(f"field-{position // 5 + 1:02d}_cell-{position:03d}.png"),
            "position": position,
            "state": "done",
            "reason": "",
            "width": 148,
            "height": 148,
            "label": label,
            "bethesda": bethesda,
            "p_abnormal": p,
            "flagged": None if p is None else p >= 0.31,
            "uncertain": label == "uncertain",
            "quality": "good",
            "verdict": None,
            "agrees": None,
        }
        return row | other

    answers = [
        ("carcinoma_in_situ", "HSIL", 0.996),
        ("severe_dysplastic", "HSIL", 0.981),
        ("severe_dysplastic", "HSIL", 0.943),
        ("moderate_dysplastic", "HSIL", 0.887),
        ("light_dysplastic", "LSIL", 0.791),
        ("light_dysplastic", "LSIL", 0.702),
        ("light_dysplastic", "LSIL", 0.634),
        ("uncertain", None, 0.418),
        ("uncertain", None, 0.352),
        ("uncertain", None, 0.294),
        ("normal_columnar", "NILM", 0.171),
        ("normal_columnar", "NILM", 0.094),
        ("normal_intermediate", "NILM", 0.052),
        ("normal_intermediate", "NILM", 0.021),
        ("normal_superficiel", "NILM", 0.008),
        ("normal_superficiel", "NILM", 0.004),
    ]
    cells = [cell(i + 1, *answer) for i, answer in enumerate(answers)]
    for i, verdict in enumerate(("HSIL", "HSIL", "ASC-H")):
        cells[i] |= {"verdict": verdict, "agrees": verdict == "HSIL"}
    cells += [
        cell(17, "unsatisfactory", None, None, uncertain=True, quality="blurred"),
        cell(18, "unsatisfactory", None, None, uncertain=True, quality="not a cell", verdict="unsatisfactory"),
        cell(19, "", None, None, state="waiting"),
        cell(20, "", None, None, state="failed", reason=say("the file ends in the middle of the picture")),
    ]
    this = case(
        "K7M2QX",
        20,
        done=17,
        waiting=2,
        failed=1,
        decided=4,
        abnormal=7,
        uncertain=3,
        unsatisfactory=2,
        second_reader=say("Second Reader"),
        second_reader_id="u2",
        blinded=True,
        blind=True,
    )
    pages = {"number": 2, "pages": 7, "total": 128, "previous": "/cases?page=1", "next": "/cases?page=3"}
    one = {"number": 1, "pages": 1, "total": 20, "previous": None, "next": None}
    no_filters = {
        "q": say("K7"),
        "state": "",
        "order": "new",
        "reader": "",
        "verdict": "",
        "agreement": "",
        "since": "",
        "until": "",
        "actor": "",
        "action": "",
    }
    prediction = {
        "model_name": say("resnet50-flips-lr"),
        "model_sha256": SHA,
        "label": "light_dysplastic",
        "bethesda": "LSIL",
        "p_abnormal": 0.702,
        "flagged": True,
        "operating_point": 0.31,
        "sensitivity": 0.95,
        "normal_below": 0.24,
        "abnormal_from": 0.46,
        "uncertain": False,
        "quality": "good",
        "disagreement": 0.18,
        "probabilities": [
            ("normal_superficiel", 0.02),
            ("normal_intermediate", 0.09),
            ("normal_columnar", 0.19),
            ("light_dysplastic", 0.51),
            ("moderate_dysplastic", 0.14),
            ("severe_dysplastic", 0.04),
            ("carcinoma_in_situ", 0.01),
        ],
        "votes": [
            {"member": say("resnet50"), "label": "light_dysplastic", "p_abnormal": 0.74},
            {"member": "densenet121", "label": "light_dysplastic", "p_abnormal": 0.69},
            {"member": "morphology", "label": "normal_columnar", "p_abnormal": 0.28},
        ],
    }
    rows = lambda *names: [  # noqa: E731
        {"name": n, "value": v, "unit": u, "help": "what it is"} for n, v, u in names
    ]
    morphology = [
        (
            "Nucleus and cell",
            rows(
                ("nc_ratio", 0.342, ""),
                ("nucleus_area", 0.118, "of crop"),
                ("cytoplasm_area", 0.227, "of crop"),
                ("nucleus_elongation", 0.81, ""),
                ("nucleus_circularity", 0.873, ""),
                ("nucleus_irregularity", 0.064, "of radius"),
                ("nucleus_lightness", 41.7, "L*"),
                ("contrast_cytoplasm", 28.4, "CIELAB"),
                ("chromatin_contrast", 5.92, ""),
                ("chromatin_entropy", 6.1, "bits"),
                ("dark_spots", 4.0, ""),
                ("crowding", 0.031, "of crop"),
            ),
        ),
        ("Colours", rows(("cytoplasm_lightness", 71.2, "L*"), ("hue_difference", 12.5, "degrees"))),
        ("Chromatin", rows(("chromatin_energy", 0.021, ""), ("light_spots", 2.0, ""))),
    ]
    base = {
        "user": {"name": say("First Reader"), "email": say("first.reader@lab.example"), "role": "reviewer"},
        "csrf": "c5rf-token",
        "theme": "",
        "messages": [],
        "here": "",
        "errors": {},
        "values": {},
        "may": {"new", "upload", "edit", "assign", "decide", "report", "sign", "export", "delete", "see_all"},
    }
    out = base | {"user": None, "may": set()}
    admin = base | {"here": "admin", "user": base["user"] | {"role": "administrator"}}
    dates = [date(2026, 2, 11) + timedelta(days=i) for i in range(30)]
    busy = [0 if d.weekday() > 4 else chance.randint(2, 9) for d in dates]
    choices = [("u1", say("First Reader")), ("u2", say("Second Reader"))]
    codes = [(c, c) for c in ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC")]
    many = [
        case("K7M2QX", 128, decided=41, abnormal=9, uncertain=6),
        case("R4TB9A", 312, waiting=88, failed=2, abnormal=17, uncertain=11, created_at=at(0.9), owner=say("Admin")),
        case(
            "P0WZ3C",
            64,
            decided=64,
            abnormal=3,
            uncertain=1,
            state="signed",
            second_reader=say("Second Reader"),
            created_at=at(2),
        ),
        case("X8J5LD", 40, waiting=40, created_at=at(3.2)),
        case("A1F6GH", 96, decided=96, uncertain=2, state="signed", created_at=at(6)),
    ]
    report_cells = [
        c | {"disputed": i == 2, "reader": say("First Reader"), "comment": say("Koilocytic halo.") if i == 4 else ""}
        for i, c in enumerate(cells[:18])
    ]
    for c in report_cells[3:17]:
        c["verdict"] = c["verdict"] or c["bethesda"] or "ASC-US"
    report = {
        "case": this,
        "version": 2,
        "versions": [(1, "/cases/K7M2QX/report?version=1", at(1)), (2, "/cases/K7M2QX/report", at(0.1))],
        "made_at": at(0.1),
        "model_name": say("resnet50-flips-lr"),
        "model_sha256": SHA,
        "operating_point": 0.31,
        "sensitivity": 0.95,
        "signed_by": say("First Reader"),
        "signed_at": at(0.1),
        "reason": say("Second reading taken up."),
        "sha256": SHA[::-1],
        "state": SHA[:16],
        "summary": [("HSIL", 4), ("ASC-H", 1), ("LSIL", 3), ("ASC-US", 3), ("NILM", 6), ("unsatisfactory", 1)],
        "conclusion": say("Several cells with high-grade features.\nColposcopy is suggested."),
        "cells": report_cells,
        "not_read": 1,
        "disputed": 1,
        "problem": "",
        "blinded": "",
    }
    model = {"name": say("resnet50-flips-lr"), "sha256": SHA, "classes": ["normal_superficiel", "severe_dysplastic"]}
    told = [("done", say("Case K7M2QX was opened.")), ("warned", "Two files were not taken.")]
    return {
        "sign_in.html": out
        | {
            "next": "/cases",
            "registration": "open",
            "mail": True,
            "values": {"email": say("a@lab.example")},
            "errors": {"": "Address and password do not belong together."},
        },
        "sign_in_code.html": out | {"next": "/cases"},
        "set_up.html": out
        | {"token": "Zq3xT1", "errors": {"password": "At least 12 characters."}, "values": {"name": say("Reader")}},
        "register.html": out
        | {
            "step": "finish",
            "email": say("admin@lab.example"),
            "role": "reader",
            "by_code": False,
            "action": "/invitation/abc",
        },
        "reset.html": out | {"step": "ask", "email": say("admin@lab.example"), "mail": True, "action": "/reset"},
        "cases.html": base
        | {
            "here": "cases",
            "cases": many,
            "page": pages,
            "filters": no_filters,
            "messages": told,
            "orders": [("new", "newest first"), ("suspicion", "most suspicious first")],
            "states": [("", "all"), ("open", "open"), ("signed", "signed")],
        },
        "case.html": base
        | {
            "here": "cases",
            "case": this,
            "cells": cells,
            "hide_model": False,
            "page": one,
            "view": "grid",
            "show": "all",
            "shown": [
                ("all", "All", 20, "?show=all"),
                ("suspicious", "Suspicious", 7, "?show=s"),
                ("uncertain", "Uncertain", 3, "?show=u"),
                ("open", "Undecided", 16, "?show=o"),
            ],
            "view_links": {"grid": "?view=grid", "table": "?view=table"},
            "max_upload_mb": 200,
            "refused": [(say("notes.docx"), "not a picture")],
            "next_cell": "/cases/K7M2QX/cells/4",
            "no_model": "",
            "second_readers": choices,
        },
        "reading.html": base
        | {
            "here": "cases",
            "case": this,
            "cell": cells[5],
            "total": 20,
            "readable": 19,
            "decided": 4,
            "previous_url": "/cases/K7M2QX/cells/5",
            "next_url": "/cases/K7M2QX/cells/7",
            "open_url": "/cases/K7M2QX/cells/8",
            "strip": [(c, f"/cases/K7M2QX/cells/{c['id']}", c is cells[5]) for c in cells[:18]],
            "image_url": f"/images/{6:032x}",
            "map_url": f"/images/{6:032x}/map",
            "map_target": "abnormal",
            "next_image": f"/images/{7:032x}",
            "prediction": prediction,
            "morphology": morphology,
            "can_undo": True,
            "closed": False,
            "for_others": False,
            "reading": "first",
            "hide_model": False,
            "classes": [("normal_superficiel", "q"), ("light_dysplastic", "w"), ("carcinoma_in_situ", "")],
            "review": {
                "verdict": "LSIL",
                "stored": "light_dysplastic",
                "agrees": True,
                "comment": say("Halo."),
                "created_at": at(0.01),
            },
            "others": [
                {
                    "reader": say("Second Reader"),
                    "reading": "second",
                    "verdict": "ASC-US",
                    "comment": say("Thin halo."),
                    "created_at": at(0),
                }
            ],
        },
        "second.html": base
        | {"here": "second", "waiting": [many[0] | {"blinded": True}, many[1]], "finished": [many[2]]},
        "disagreements.html": base
        | {
            "here": "disagreements",
            "page": one,
            "show": "open",
            "show_links": {"open": "?show=open", "all": "?show=all"},
            "kappa": {"value": 0.71, "low": 0.62, "high": 0.79, "n": 214, "agreement": 0.83, "weighted": 0.84},
            "rows": [
                {
                    "case": "K7M2QX",
                    "cell": c,
                    "address": "/cases/K7M2QX/cells/1",
                    "first": c["bethesda"] or "ASC-US",
                    "second": "ASC-H",
                    "first_reader": say("First Reader"),
                    "second_reader": say("Second Reader"),
                    "model": c["label"],
                    "bethesda": c["bethesda"] or "",
                    "settled": "HSIL" if i == 2 else None,
                    "settled_by": say("Administrator"),
                }
                for i, c in enumerate(cells[4:9])
            ],
        },
        "report.html": base
        | {"here": "cases", "case": this, "report": report, "pdf_url": "/cases/K7M2QX/report.pdf", "changed": False},
        "history.html": base
        | {
            "here": "history",
            "page": pages,
            "filters": no_filters,
            "readers": choices,
            "verdicts": codes,
            "labels": [("bethesda", "Bethesda categories"), ("classes", "classes of the model")],
            "rows": [
                {
                    "at": at(0.1 * i),
                    "kind": "verdict",
                    "case": "K7M2QX",
                    "cell": c["name"],
                    "address": "/cases/K7M2QX/cells/1",
                    "reader": say("First Reader"),
                    "verdict": c["bethesda"] or "ASC-US",
                    "model": c["label"],
                    "agrees": i % 3 != 2,
                    "comment": say("Halo about the nucleus.") if i % 4 == 1 else "",
                }
                for i, c in enumerate(cells[:9])
            ]
            + [
                {
                    "at": at(2),
                    "kind": "report",
                    "case": "P0WZ3C",
                    "cell": "",
                    "address": "/cases/P0WZ3C/report",
                    "reader": say("Administrator"),
                    "verdict": "",
                    "model": "",
                    "agrees": None,
                    "comment": "",
                }
            ],
        },
        "dashboard.html": base
        | {
            "here": "dashboard",
            "days": 30,
            "periods": [(7, "?days=7"), (30, "?days=30"), (90, "?days=90")],
            "today": {"cases": 6, "cells": 412, "waiting": 88, "seconds": 1.9},
            "dates": dates,
            "cases_per_day": busy,
            "cells_per_day": [b * chance.randint(30, 70) for b in busy],
            "agreement_per_day": [None if not b else chance.uniform(0.78, 0.95) for b in busy],
            "agreement": {"value": 0.87, "low": 0.85, "high": 0.89, "n": 1840},
            "drift": {"psi": 0.07, "ks": 0.06, "p": 0.21, "state": "stable", "n": 4210, "reference_n": 917},
            "score_edges": [k / 10 for k in range(11)],
            "score_reference": [0.31, 0.09, 0.05, 0.04, 0.03, 0.04, 0.05, 0.07, 0.11, 0.21],
            "score_recent": [0.35, 0.10, 0.05, 0.04, 0.03, 0.04, 0.05, 0.06, 0.10, 0.18],
            "verdicts": [("NILM", 1204), ("ASC-US", 141), ("LSIL", 233), ("HSIL", 171), ("unsatisfactory", 91)],
        },
        "admin_users.html": admin
        | {
            "q": "",
            "page": one | {"total": 3},
            "users": [
                {
                    "id": f"u{i}",
                    "name": say(name),
                    "email": say(f"{name.split()[0].lower()}@lab.example"),
                    "role": role,
                    "active": i != 2,
                    "second_factor": i == 0,
                    "created_at": at(90),
                    "last_sign_in_at": at(i) if i != 2 else None,
                    "is_me": i == 0,
                    "is_last_administrator": i == 0,
                }
                for i, (name, role) in enumerate(
                    (("First Reader", "administrator"), ("Second Reader", "reviewer"), ("Administrator", "reader"))
                )
            ],
            "invitations": [
                {
                    "id": "i1",
                    "email": say("li@lab.example"),
                    "role": "reader",
                    "expires_at": at(-3),
                    "by": say("First Reader"),
                }
            ],
        },
        "admin_invite.html": admin
        | {
            "roles": [(r, r) for r in ("reader", "reviewer", "administrator")],
            "mail": False,
            "link": "https://lab.example/invitation/7Hq2",
            "email": say("li@lab.example"),
        },
        "admin_audit.html": admin
        | {
            "page": pages,
            "filters": no_filters,
            "actions": [("sign-in", "sign-in"), ("verdict", "verdict")],
            "actors": choices,
            "check": {"ok": True, "rows": 18421, "at": at(0.01), "problem": ""},
            "rows": [
                {
                    "id": 18421 - i,
                    "at": at(i / 50),
                    "actor": say("first.reader@lab.example"),
                    "action": action,
                    "subject": say("case K7M2QX"),
                    "detail": say('{"verdict": "HSIL", "agrees": true}'),
                    "hash": SHA,
                }
                for i, action in enumerate(
                    ("verdict", "verdict", "report signed", "sign-in", "images added", "invitation", "role changed")
                )
            ],
        },
        "admin_upkeep.html": admin
        | {
            "retention_days": 0,
            "due": 0,
            "backups": [{"name": "cervicyte-2026-03-11.tar", "size": 812_000_000, "at": at(1), "verified": True}],
            "storage": {"database": 48_000_000, "images": 2_310_000_000, "free": 81_200_000_000},
            "queue": {"waiting": 88, "failed": 2, "working": True, "oldest_at": at(0.001)},
            "model": model,
            "versions": [("cervicyte", "0.3.0"), ("Python", "3.11.9")],
        },
        "account.html": base
        | {
            "here": "account",
            "second_factor": False,
            "secret": "JBSW Y3DP EHPK 3PXP",
            "otpauth": "otpauth://totp/cervicyte:a?secret=JBSWY3DPEHPK3PXP",
            "new_token": "cvt_4f9s8d7f6a5s4d3f",
            "tokens": [
                {
                    "id": "t1",
                    "name": say("night import"),
                    "created_at": at(20),
                    "used_at": at(0.3),
                    "expires_at": at(-70),
                },
                {"id": "t2", "name": say("notebook"), "created_at": at(2), "used_at": None, "expires_at": at(-28)},
            ],
            "sessions": [
                {"created_at": at(0.2), "seen_at": at(0), "is_this": True},
                {"created_at": at(3), "seen_at": at(1), "is_this": False},
            ],
        },
        "error.html": base | {"status": 404, "what": "", "todo": "", "retry_after": None, "request_id": "01HQ7V2M9K"},
    }
