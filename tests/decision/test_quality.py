"""Pictures that are not cells get no verdict; cells like the training cells do; the limits need no foreign picture."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from cervicyte.base.files import sha256_file
from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.data import synthetic
from cervicyte.decision.quality import REASONS, REFUSED, QualityModel, fit_quality, verdicts
from cervicyte.errors import BundleError
from cervicyte.evaluation import metrics, report
from cervicyte.images.descriptors import NAMES, beyond_slide, describe
from cervicyte.runs.evaluate import evaluate
from support.commands import cervicyte
from support.foreign_inputs import KINDS, SIDE, Kind
from support.generated_cells import make_cell, save

CELLS = 240


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of generated cells and their groups, four cells each."""
    return np.array([describe(make_cell(seed)) for seed in range(CELLS)]), np.arange(CELLS) // 4


@pytest.fixture(scope="module")
def model(known) -> QualityModel:
    found, note = fit_quality(*known)
    assert found is not None
    assert note == ""
    return found


@pytest.fixture(scope="module")
def others() -> list[np.ndarray]:
    return [make_cell(seed) for seed in range(10_000, 10_150)]


# ---- descriptors


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (7, 9), (96, 96), (1500, 40)])
@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_any_picture_is_described_by_finite_numbers(shape, kind) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = describe(np.full_like(image, 255) if kind == "flat" else image)
    assert found.dtype == np.float32
    assert found.shape == (len(NAMES) + 1,)
    assert np.isfinite(found).all()


def test_the_size_of_a_picture_and_its_margins_say_nothing(known) -> None:
    spread = known[0].std(axis=0) + 1e-3
    cell = make_cell(3, 192)
    padded = np.pad(cell, ((0, 0), (60, 60), (0, 0)), constant_values=200)
    for other in (np.asarray(Image.fromarray(cell).resize((384, 384), Image.Resampling.BICUBIC)), padded):
        difference = np.abs(describe(other) - describe(cell)) / spread
        assert np.median(difference) < 0.1
        assert difference.mean() < 0.3


# ---- limits


def test_few_cells_of_unseen_groups_are_refused(model, others) -> None:
    refused = verdicts(model, np.array([describe(cell) for cell in others])) != ""
    assert refused.mean() <= 0.05


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_foreign_pictures_are_refused(model, others, kind: Kind) -> None:
    cells = np.array([describe(cell) for cell in others[:75]])
    foreign = np.array([describe(image) for image in kind.make(others[75:], 30, np.random.default_rng(1))])
    scores = np.r_[model.distance(cells), model.distance(foreign)]
    assert metrics.auroc(np.arange(len(scores)) >= len(cells), scores) >= 0.97
    refused = verdicts(model, foreign)
    assert set(refused) <= {"", *REASONS}
    assert (refused != "").mean() >= (0.9 if kind.gross else 0.5)


def test_the_reason_says_what_is_wrong(model, others) -> None:
    random = np.random.default_rng(2)
    made = {kind.name: kind.make(others, 20, random) for kind in KINDS}

    def share(name: str, *reasons: str) -> float:
        return float(np.isin(verdicts(model, np.array([describe(i) for i in made[name]])), reasons).mean())

    assert share("blank", "blank") == 1
    assert share("extreme blur of test cells", "blurred", "blank") > 0.8
    assert share("text", "not a cell") > 0.8
    assert share("noise", "not a cell", "blank") > 0.8


def _over_an_edge(cell: np.ndarray, part: str) -> np.ndarray:
    """The cell as OpenSlide and tiffslide give it where a crop reaches over the edge, or lies on what is left out."""
    black, side = cell.copy(), cell.shape[0]
    black[
        {"left": np.s_[:, : side // 5], "below": np.s_[-side // 3 :], "corner": np.s_[: side // 3, side // 2 :]}[part]
    ] = 0
    return black


@pytest.mark.parametrize("part", ["left", "below", "corner"])
def test_a_crop_over_the_edge_of_a_slide_gets_no_verdict(model, others, part) -> None:
    """A part of black made normal cells abnormal."""
    found = verdicts(model, np.array([describe(_over_an_edge(cell, part)) for cell in others[:20]]))
    assert set(found) == {"reaches beyond the slide"}


def test_jpeg_leaves_the_black_of_an_edge_black(model, others) -> None:
    stream = io.BytesIO()
    Image.fromarray(_over_an_edge(others[0], "left")).save(stream, "JPEG", quality=75)
    assert verdicts(model, describe(np.asarray(Image.open(stream)))[None]).tolist() == ["reaches beyond the slide"]


def test_white_and_dark_parts_and_black_lines_are_no_edge(model, others) -> None:
    cell = others[0].copy()
    assert beyond_slide(cell) == 0
    for value in (255, 30):
        other = cell.copy()
        other[:40] = value
        assert beyond_slide(other) == 0
    cell[:60, :1] = 0
    assert "beyond" not in verdicts(model, describe(cell)[None])[0]
    cell[40:80, 40:80] = 0
    assert beyond_slide(cell) == pytest.approx(60 / 120**2)


def test_a_model_of_cells_on_black_ground_takes_such_cells(known, others) -> None:
    descriptors = np.array([describe(_over_an_edge(make_cell(seed), "left")) for seed in range(40)])
    found, _ = fit_quality(descriptors, np.arange(40) // 4)
    assert found.framed
    assert QualityModel.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert "reaches beyond the slide" not in verdicts(found, descriptors)
    with pytest.raises(BundleError, match="not of the form"):
        QualityModel.from_json(found.to_json() | {"framed": 1})


def test_what_cannot_be_described_is_refused(model) -> None:
    assert verdicts(model, np.full((1, len(NAMES)), np.nan)).tolist() == ["not a cell"]


def test_limits_refuse_as_many_cells_as_they_are_meant_to(known) -> None:
    descriptors, groups = known
    shares = []
    for fold in range(4):
        test = groups % 4 == fold
        found, _ = fit_quality(descriptors[~test], groups[~test])
        shares.append((verdicts(found, descriptors[test]) != "").mean())
    assert np.mean(shares) <= 2.5 * REFUSED


@pytest.mark.parametrize(("n", "groups"), [(0, 1), (19, 19), (100, 1)])
def test_too_few_cells_or_groups_set_no_limit_and_a_note_says_so(known, n, groups) -> None:
    found, note = fit_quality(known[0][:n], np.arange(n) % groups)
    assert found is None
    assert "NOT CHECKED" in note
    assert f"{n} cells" in note


def test_few_cells_set_wide_limits(known, others) -> None:
    found, _ = fit_quality(known[0][:20], np.arange(20) % 5)
    assert (verdicts(found, np.array([describe(cell) for cell in others])) != "").mean() <= 0.2
    assert verdicts(found, describe(np.zeros((SIDE, SIDE, 3), np.uint8))[None]).tolist() == ["blank"]


def test_cells_that_could_not_be_described_set_no_limit(known, model) -> None:
    holes = np.concatenate([known[0], np.full((3, len(NAMES) + 1), np.nan)])
    assert fit_quality(holes, np.append(known[1], [900, 901, 902]))[0] == model


# ---- in a manifest


def test_limits_survive_the_manifest(model) -> None:
    assert QualityModel.from_json(json.loads(json.dumps(model.to_json()))) == model


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(value=json_values)
def test_no_other_value_is_taken_for_limits(value) -> None:
    with pytest.raises(BundleError, match="image quality"):
        QualityModel.from_json(value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_limits_with_one_odd_value_are_refused_or_mean_what_they_say(model, data) -> None:
    plain = model.to_json()
    name = data.draw(st.sampled_from(sorted(plain)))
    odd = data.draw(json_values)
    if isinstance(plain[name], list) and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(plain[name]) - 1))
        plain[name] = [*plain[name][:place], odd, *plain[name][place + 1 :]]
    else:
        plain[name] = odd
    try:
        found = QualityModel.from_json(plain)
    except BundleError:
        return
    assert found.to_json() == plain
    assert np.isfinite(found.distance(np.zeros((1, len(NAMES))))).all()


# ---- the whole way


@pytest.fixture(scope="module")
def mixture(trained, tmp_path_factory) -> Path:
    """A folder of cells of other slides, and of what is no cell."""
    folder = tmp_path_factory.mktemp("mixture")
    synthetic.generate(folder / "cells", n_per_class=3, seed=77, size=96)
    for kind in KINDS:
        if kind.name in ("blank", "noise", "text"):
            for i, image in enumerate(kind.make([], 6, np.random.default_rng(3))):
                save(image, folder / "foreign" / f"{kind.name} {i}.png")
    return folder


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_predict_refuses_what_is_no_cell_and_counts_it(trained, mixture, tmp_path, ending) -> None:
    import pandas as pd

    out = tmp_path / f"p.{ending}"
    done = cervicyte("predict", mixture, "--model", trained.bundle, "--out", out)
    assert done.returncode == 0, done.stderr
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending]
    table = read(out)
    names = list(table.columns)
    assert names[names.index("uncertain") + 1] == "quality"
    foreign = table["path"].str.contains("foreign")
    refused = table[foreign & (table["quality"] != "good")]
    assert len(refused) == foreign.sum()
    assert set(refused["quality"]) <= set(REASONS)
    assert set(refused["label"]) == {UNSATISFACTORY}
    numbers = [c for c in names if c.startswith("p_")]
    assert refused[[*numbers, "above_operating_point"]].isna().all(axis=None)
    assert refused["uncertain"].astype(bool).all()
    cells = table[~foreign]
    assert (cells["quality"] == "good").mean() > 0.8
    assert cells.loc[cells["quality"] == "good", numbers].notna().all(axis=None)
    counted = (table["quality"] != "good").sum()
    assert f"{counted} refused (" in done.stderr
    assert "6 blank" in done.stderr


def test_predict_gives_no_verdict_on_a_crop_over_the_edge(trained, tmp_path) -> None:
    whole, cut = make_cell(5, 96), _over_an_edge(make_cell(5, 96), "left")
    paths = [save(whole, tmp_path / "whole.png"), save(cut, tmp_path / "cut.png")]
    seen = list(Bundle.load(trained.bundle).stream(paths))
    assert "beyond" not in seen[0].quality
    assert (seen[1].quality, seen[1].label) == ("reaches beyond the slide", UNSATISFACTORY)
    assert seen[1].p_abnormal is None


def test_training_says_how_many_of_its_own_test_cells_it_refused(trained) -> None:
    scores = json.loads((trained.folder / "metrics.json").read_text())
    with (trained.folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    refused = [row for row in rows if row["quality"] != "good"]
    found = scores["quality"]
    assert found["refused"]["value"] == pytest.approx(len(refused) / len(rows))
    assert found["refused"]["ci95"][0] <= found["refused"]["value"] <= found["refused"]["ci95"][1]
    assert sum(found["reasons"].values()) == len(refused)
    assert all(row["uncertain"] == "true" for row in refused)
    assert "refused as no picture to judge" in trained.out


def test_a_labelled_picture_that_is_no_cell_counts_as_uncertain_and_the_report_says_so(trained, tmp_path) -> None:
    cells = synthetic.generate(tmp_path / "cells", n_per_class=3, seed=78, size=96)
    white = save(np.full((96, 96, 3), 255, np.uint8), tmp_path / "white.png")
    cells = cells.with_cells([replace(cells.cells[0], path=white), *cells.cells[1:]])
    test = evaluate(trained.bundle, cells, tmp_path / "test")
    p = test.evaluation.predictions
    assert p.quality[0] == "blank"
    assert p.uncertain[0]
    assert test.evaluation.metrics["quality"]["reasons"]["blank"] == 1
    said = " ".join(report.verdict(test.evaluation))
    assert "It refuses" in said
    assert "1 blank" in said


def _changed(folder: Path, **changes: object) -> Path:
    """The bundle with other entries in its manifest, and right checksums."""
    plain = json.loads((folder / "manifest.json").read_text())
    plain = {name: value for name, value in (plain | changes).items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(plain))
    names = sorted(p.name for p in folder.iterdir() if p.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))
    return folder


def test_a_bundle_from_before_answers_as_it_did_and_says_that_nothing_was_checked(
    trained, mixture, bundle_copy
) -> None:
    before = Bundle.load(trained.bundle)
    old = Bundle.load(_changed(bundle_copy, quality=None))
    assert old.manifest.quality is None
    assert old.extractor().key != before.extractor().key
    for was, now in zip(before.stream([mixture]), old.stream([mixture]), strict=True):
        assert now.quality == "not checked"
        assert now.label != UNSATISFACTORY
        if not was.refused:
            assert replace(now, quality="good") == was


def test_a_bundle_with_broken_limits_is_refused(trained, bundle_copy) -> None:
    broken = Bundle.load(trained.bundle).manifest.quality.to_json() | {"distance_to": -1.0}
    with pytest.raises(BundleError, match="not of the form"):
        Bundle.load(_changed(bundle_copy, quality=broken))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_foreign_picture_is_called_normal_whatever_the_network_says(trained, data) -> None:
    bundle = Bundle.load(trained.bundle)
    scores = np.array(data.draw(st.lists(st.floats(0, 1), min_size=7, max_size=7))) + 1e-6
    black = describe(np.zeros((50, 50, 3), np.uint8))
    found = bundle.verdict("x", np.concatenate([scores / scores.sum(), black]))
    assert (found.label, found.quality, found.uncertain) == (UNSATISFACTORY, "blank", True)
    assert found.probabilities == ()
    assert found.p_abnormal is None
    assert found.above_operating_point is None


# ---- real cells


def test_true_cells_are_answered_and_whole_fields_refused(shared) -> None:
    from cervicyte.data import readers
    from cervicyte.images import decoding

    cells = readers.load(shared / "data" / "herlev")
    some = cells.subset(np.arange(0, len(cells), 2))
    descriptors = np.array([describe(decoding.load(c.path, c.box)) for c in some.cells])
    _, codes = np.unique(some.groups.astype(str), return_inverse=True)
    test = codes % 4 == 0
    found, _ = fit_quality(descriptors[~test], some.groups[~test])
    assert (verdicts(found, descriptors[test]) != "").mean() <= 0.06
    fields = [
        describe(decoding.load(f.path)) for f in decoding.find_images([shared / "data" / "cric_fields" / "*.webp"])
    ]
    assert (verdicts(found, np.array(fields)) != "").mean() >= 0.9
