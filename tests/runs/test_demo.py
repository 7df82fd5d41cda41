"""The demonstration runs offline and says what to open; the doctor says what is missing and how to mend it."""

from __future__ import annotations

import csv
import functools
import importlib.metadata
import socket
from pathlib import Path

from cervicyte import settings
from cervicyte.cli import doctor
from cervicyte.networks import registry
from cervicyte.runs import demo as tour
from support.commands import cervicyte, inside


def test_the_demonstration_runs_offline_and_says_what_to_open(tmp_path, monkeypatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the demonstration went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    # The same tour with fewer and smaller cells, to be quick.
    real = tour.synthetic.generate

    def small(folder: Path, n_per_class: int = 12, seed: int = 0):
        return real(folder, n_per_class=n_per_class, seed=seed, size=64)

    monkeypatch.setattr(tour.synthetic, "generate", functools.wraps(real)(small))
    out = tmp_path / "show"
    code, scores, said = inside(monkeypatch, capsys, "demo", "--out", out)
    assert code == 0, said
    for name in ("report.html", "metrics.json", "bundle/model.onnx", "demo_predictions.csv", "cells", "new_cells"):
        assert (out / name).exists(), name
    assert f"Open {out / 'report.html'}" in said
    assert "no real patient" in said
    assert "say nothing of" in said
    assert "OPTIMISTIC" in scores
    assert "gap" in scores
    with (out / "demo_predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 21
    assert not [r for r in rows if r["error"]]


def test_the_doctor_finds_this_installation_whole(monkeypatch, capsys) -> None:
    done = cervicyte("doctor")
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stderr
    rows = {row.name: row for row in doctor.check()}
    for name in ("python", "openvino", "onnxruntime", "scikit-learn", "engine", "cache"):
        assert rows[name].status == "OK", rows[name]
        assert name in done.stdout
    for backbone in registry.BACKBONES:
        if backbone.kind == "keras":
            row = rows[f"weights {backbone.name}"]
            assert row.status in ("OK", "NOTE")
            assert row.status == "OK" or backbone.weights_file in row.fix


def test_weights_that_are_at_hand_are_found_and_nothing_is_fetched(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the doctor went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    (tmp_path / "mobilenetv2_imagenet_notop.weights.h5").write_bytes(b"weights")
    monkeypatch.setenv("CERVICYTE_WEIGHTS", str(tmp_path))
    rows = {row.name: row for row in doctor.check()}
    assert rows["weights MobileNetV2"].status == "OK"
    assert "mobilenetv2" in rows["weights MobileNetV2"].message
    assert rows["weights Xception"].status == "NOTE"


def test_what_is_missing_is_told_with_its_remedy(tmp_path, monkeypatch, capsys) -> None:
    real = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("openvino", "torch"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", without)
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("CERVICYTE_THREADS", "all")
    monkeypatch.setenv("CERVICYTE_ENGINE", "warp")
    rows = {row.name: row for row in doctor.check()}
    assert (rows["openvino"].status, rows["openvino"].fix) == ("FAIL", "pip install cervicyte")
    assert rows["torch"].status == "NOTE"
    assert "cervicyte[train]" in rows["torch"].fix
    assert rows["cache"].status == "FAIL"
    assert "CERVICYTE_CACHE_DIR" in rows["cache"].fix
    assert rows["CERVICYTE_THREADS"].status == "FAIL"
    assert rows["CERVICYTE_ENGINE"].status == "FAIL"
    assert rows["engine"].status == "FAIL"
    assert "openvino" in rows["engine"].message
    code, out, _ = inside(monkeypatch, capsys, "doctor")
    assert code == 6
    assert "-> " in out
    assert {row.status for row in rows.values()} <= {"OK", "NOTE", "FAIL"}
    assert settings.SETTINGS
