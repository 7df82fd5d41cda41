"""Our own network: it does not care how a cell lies, its graph says what it says, and it learns and resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

from cervicyte import settings
from cervicyte.data import splits
from cervicyte.decision.calibration import softmax
from cervicyte.errors import DataError, UsageError
from cervicyte.features.extraction import NetworkExtractor
from cervicyte.images.augmentation import GEOMETRIC
from cervicyte.images.decoding import load, resize
from cervicyte.networks.cytonet import ORIENTATIONS, Cytonet, Shape, to_onnx
from cervicyte.networks.registry import get_backbone
from cervicyte.networks.runtime import Engine
from cervicyte.training.cytonet import distillation
from cervicyte.training.cytonet.distillation import Foundation, Lessons, StudentTrainer, Weighing, train_foundation
from cervicyte.training.cytonet.student import DistilledMember, PixelReader, Reduction
from cervicyte.training.cytonet.teacher import Seat, Teacher
from cervicyte.training.cytonet.views import view
from cervicyte.training.fitting import fit_model
from cervicyte.training.members import make_member
from cervicyte.training.parts import Distil, Finetune, Linear, method_of, read_part
from cervicyte.training.recipes import load_recipe, parse_recipe
from cervicyte.training.schedule import Schedule
from support.generated_cells import make_cell
from support.sharing import needs

pytestmark = needs("torch")

TINY = Shape(side=32, fields=(1, 1, 2, 2), blocks=(1, 1, 1, 1), dimension=8)
QUICK = Schedule(epochs=3, batch_size=8, learning_rate=3e-3, averaging=0.5)


def pictures(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Noise, uint8 (count, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def features_of(network: Cytonet, pixels: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return network(tensor).mean((2, 3)).numpy()


def worn(shape: Shape = TINY, seed: int = 0) -> Cytonet:
    """A network whose statistics and scales are no longer those it starts with."""
    network = Cytonet(shape, seed)
    random = np.random.default_rng(seed)
    network.set_arrays([a + random.normal(size=a.shape).astype(np.float32) ** 2 * 0.1 for a in network.get_arrays()])
    return network


# The network


@pytest.mark.parametrize("g", range(ORIENTATIONS))
def test_its_answer_does_not_depend_on_how_a_cell_lies(g: int) -> None:
    network, upright = worn(), pictures(4)
    turned = np.rot90(upright[:, :, ::-1] if g >= 4 else upright, g % 4, (1, 2))
    expected = features_of(network, upright)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(features_of(network, turned), expected, rtol=1e-4, atol=1e-5)


def test_its_map_turns_with_the_cell() -> None:
    network, upright = worn().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = torch.rot90(network(upright), 1, (2, 3))
        np.testing.assert_allclose(network(torch.rot90(upright, 1, (2, 3))), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, network(upright), atol=1e-3)


def test_initial_weights_follow_from_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (Cytonet(TINY, seed).get_arrays() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_network_that_ships_is_small() -> None:
    network = Cytonet(Shape(), 0)
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000
    assert len(to_onnx(network).SerializeToString()) <= 6_000_000


def test_the_graph_says_what_the_network_says() -> None:
    network, pixels = worn(), pictures(5)
    graph = to_onnx(network).SerializeToString()
    answers = Engine(graph, ("features", "feature_map"), precision="float32").run(pixels)
    expected = features_of(network, pixels)
    # Kernels are rounded to float16 before they are judged, not after: only the order of additions differs.
    np.testing.assert_allclose(answers["features"], expected, atol=2e-5 * np.abs(expected).max())
    assert answers["feature_map"].shape == (5, 2, 2, TINY.dimension)
    np.testing.assert_allclose(answers["feature_map"].mean(axis=(1, 2)), answers["features"], atol=1e-5)


def test_statistics_are_the_mean_over_batches_and_can_be_left_alone() -> None:
    network = Cytonet(TINY, 0).train()
    batches = [torch.randn(4, 3, 32, 32) * k for k in (1, 2, 3)]
    before = network.statistics()
    with torch.no_grad(), network.statistics_kept():
        network(batches[0])
    assert all(np.array_equal(a, b) for a, b in zip(network.statistics(), before, strict=True))
    with torch.no_grad(), network.statistics_averaged():
        for batch in batches:
            network(batch)
    with torch.no_grad():
        maps = [network.stem(batch).unflatten(1, (-1, ORIENTATIONS)) for batch in batches]
        expected = np.mean([some.mean((0, 2, 3, 4)).numpy() for some in maps], axis=0)
    np.testing.assert_allclose(network.stem_norm.mean.numpy(), expected, rtol=1e-4, atol=1e-5)


# Views


@hypothesis_settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 32, 64]), st.sampled_from([16, 32, 96]))
def test_a_view_has_its_size_and_follows_from_the_generator(seed: int, source: int, side: int) -> None:
    image = pictures(1, source, seed % 7)[0]
    seen = view(image, side, np.random.default_rng(seed))
    assert (seen.shape, seen.dtype) == ((side, side, 3), np.uint8)
    assert np.array_equal(seen, view(image, side, np.random.default_rng(seed)))


def test_views_differ_and_still_show_the_cell() -> None:
    image = make_cell(0, 96)
    random = np.random.default_rng(0)
    views = np.stack([view(image, 96, random) for _ in range(60)]).astype(float)
    light = views.mean(axis=(1, 2, 3))
    assert light.std() > 3
    middle, border = views[:, 40:56, 40:56].mean(axis=(1, 2, 3)), views[:, :8].mean(axis=(1, 2, 3))
    assert (middle < border).mean() > 0.9  # the nucleus stays dark, and in the middle


# Learning


def lessons(seed: int = 0, count: int = 24) -> tuple[np.ndarray, Lessons, np.ndarray]:
    """Bright and dark pictures, and what there is to learn of them."""
    random = np.random.default_rng(seed)
    codes = np.arange(count) % 2
    pixels = np.clip(random.normal(90 + 80 * codes[:, None, None, None], 20, (count, 40, 40, 3)), 0, 255)
    targets = np.column_stack([codes * 2 - 1, random.normal(size=count)]).astype(np.float32)
    opinions = np.column_stack([0.9 - 0.8 * codes, 0.1 + 0.8 * codes]).astype(np.float32)
    return pixels.astype(np.uint8), Lessons(pixels.astype(np.uint8), targets, opinions), codes


def made_foundation(epochs: int = 3, seed: int = 0) -> Foundation:
    pixels, told, _ = lessons()
    return train_foundation(pixels, told.targets, TINY, replace(QUICK, epochs=epochs), seed, "lessons", False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own, with the networks that were exported before."""
    exports = settings.get_path("cache_dir") / "exports"
    exports.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "exports").symlink_to(exports.resolve())
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_foundation_learns_to_give_the_features() -> None:
    found = made_foundation(epochs=40)
    assert len(found.history) == 40
    assert found.history[-1] < 0.75 * found.history[0]
    assert found.projector.shape == (TINY.dimension, 2)


def test_what_was_trained_is_found_again(monkeypatch) -> None:
    first = made_foundation()
    monkeypatch.setattr(distillation, "_Run", lambda *_: pytest.fail("trained again"))
    again = made_foundation()
    assert all(np.array_equal(a, b) for a, b in zip(first.arrays, again.arrays, strict=True))
    assert first.history == again.history


def test_a_student_learns_and_its_head_is_folded() -> None:
    trainer = StudentTrainer(made_foundation(), TINY, replace(QUICK, epochs=10), Weighing(), False)
    pixels, told, codes = lessons(1)
    student = trainer.train("cells", codes, 2, 0, lambda: (told, lessons(2)[1]))
    small = np.stack([p[4:36, 4:36] for p in pixels])
    logits = trainer.logits(student, small)
    assert (logits.argmax(axis=1) == codes).mean() > 0.9
    network = Cytonet(TINY, 0)
    network.set_arrays(student.arrays)
    np.testing.assert_allclose(student.head.logits(features_of(network, small)), logits, atol=1e-4)


def test_a_student_listens_to_its_teacher() -> None:
    """With the label's share at zero, what it says is what the teacher says, not what the labels say."""
    weighing = Weighing(teacher=1.0, features=0.0, pool=0.0)
    trainer = StudentTrainer(made_foundation(), TINY, replace(QUICK, epochs=15), weighing, False)
    pixels, told, codes = lessons(1)
    contrary = replace(told, opinions=told.opinions[:, ::-1].copy())
    student = trainer.train("cells", codes, 2, 0, lambda: (contrary, contrary))
    small = np.stack([p[4:36, 4:36] for p in pixels])
    assert (trainer.logits(student, small).argmax(axis=1) != codes).mean() > 0.8


def test_most_views_are_small_and_the_last_ones_whole(monkeypatch) -> None:
    """Each step sees half as many crops as cells, of the same size; statistics are settled on whole views."""
    shape, schedule = replace(TINY, side=48), replace(QUICK, epochs=5)
    told, codes = lessons(1)[1:]
    start = Cytonet(shape, 0).get_arrays()
    trainer = StudentTrainer(
        Foundation(start, np.ones((8, 2), np.float32), "key", ()), shape, schedule, Weighing(), False
    )
    sides: list[int] = []
    monkeypatch.setattr(
        distillation, "view", lambda image, side, random: (sides.append(side), view(image, side, random))[1]
    )
    trainer.train("cells", codes, 2, 0, lambda: (told, told))
    both = len(codes) * 3 // 2
    assert sorted(sides) == [32] * 3 * both + [48] * (2 * both + len(codes))


def test_lessons_are_not_asked_for_where_the_student_is_known() -> None:
    foundation = made_foundation()
    told, codes = lessons(1)[1:]

    def train(lessons_of):
        trainer = StudentTrainer(foundation, TINY, QUICK, Weighing(), False)
        return trainer.train("cells", codes, 2, 0, lessons_of)

    first = train(lambda: (told, told))
    again = train(lambda: pytest.fail("asked for"))
    assert all(np.array_equal(a, b) for a, b in zip(first.arrays, again.arrays, strict=True))


_PROGRAM = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
import test_cytonet
from cervicyte.training.cytonet import distillation
distillation.CHECKPOINT_SECONDS = 0.0
kept = distillation.Computation.save_checkpoint
def noted(self, held):
    kept(self, held)
    print("checkpoint", len(held["history"]), flush=True)
distillation.Computation.save_checkpoint = noted
found = test_cytonet.made_foundation(epochs=30)
print("done", flush=True)
"""


def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been(own_cache, monkeypatch, tmp_path) -> None:
    environment = {**os.environ, "CERVICYTE_CACHE_DIR": str(own_cache)}
    command = [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("checkpoint") and int(line.split()[1]) >= 3:
                process.send_signal(signal.SIGKILL)
                break
    checkpoints = list(own_cache.rglob("*.checkpoint.npz"))
    assert len(checkpoints) == 1
    started = []
    real = distillation._Run._batches
    monkeypatch.setattr(
        distillation._Run,
        "_batches",
        lambda self, pixels, epoch, side: (started.append(epoch), real(self, pixels, epoch, side))[1],
    )
    resumed = made_foundation(epochs=30)
    assert started[0] >= 4
    assert not checkpoints[0].exists()
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "another"))
    whole = made_foundation(epochs=30)
    assert resumed.history == whole.history
    assert all(np.array_equal(a, b) for a, b in zip(resumed.arrays, whole.arrays, strict=True))


def test_a_reduction_keeps_what_varies_most() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(300, 3)) @ random.normal(size=(3, 20)) + 5
    found = Reduction.fit(values, 6)(values)
    assert found.shape == (300, 3)  # what does not vary is rounding; made as loud as the rest it would drown it
    assert Reduction.fit(values, 2)(values).shape == (300, 2)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.var(axis=0).mean(), 1, rtol=1e-3)


# As a member of a model


@pytest.fixture
def member(demo_cells, monkeypatch) -> DistilledMember:
    """A tiny student of two small members; the generated cells serve as crops too."""
    monkeypatch.setattr("cervicyte.training.cytonet.student.FOUNDATION", QUICK)
    parts = (
        Linear(name="frozen", backbone="MobileNetV2", size=32),
        Finetune(name="tuned", backbone="MobileNetV2", size=32, epochs=1, variants=1),
    )
    seats = [Seat(*(make_member(p, "random", "float32", 0, "geometric") for _ in range(2))) for p in parts]
    sight = [NetworkExtractor(get_backbone("MobileNetV2", size=32), "random", precision="float32")]
    crops = demo_cells.subset(np.arange(0, len(demo_cells), 1).repeat(1))
    crops = crops.with_cells([*crops.cells, *(replace(c, variant=1) for c in crops.cells)])
    quick = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "averaging": 0.5}
    part = Distil(name="cytonet", backbone="cytonet", teacher="ensemble", **quick)
    assert part.schedule == replace(QUICK, epochs=2)
    return DistilledMember(part, TINY, Teacher(seats), sight, crops, "float32", GEOMETRIC, 0)


def test_a_member_is_fitted_and_its_graph_says_what_it_says(member, demo_cells) -> None:
    assert member.read(demo_cells) == {}
    assert member.has(demo_cells).all()
    folds = splits.grouped_folds(demo_cells.codes, demo_cells.groups, 2, 0)
    found = member.fit(demo_cells, demo_cells.codes, 7, 0, folds)
    assert np.isfinite(found.oof).all()
    pixels = member.pixels.small(demo_cells)
    answers = Engine(found.graph(1.5), ("probabilities", "activation_map"), precision="float32").run(pixels)
    expected = softmax(found.logits(demo_cells), 1.5)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-4)
    again = softmax(answers["activation_map"].mean(axis=(1, 2)).astype(float))
    np.testing.assert_allclose(again, answers["probabilities"], atol=1e-4)


def test_held_out_cells_are_told_by_students_and_teachers_not_trained_on_them(member, demo_cells, monkeypatch) -> None:
    """An inner fold's teacher is the version without its cells (which told that version when to stop)."""
    member.read(demo_cells)
    folds = splits.grouped_folds(demo_cells.codes, demo_cells.groups, 2, 0)
    told: list[tuple[int, np.ndarray]] = []
    real = StudentTrainer.train

    def spy(self, named, codes, n_classes, seed, lessons_of):
        told.append((len(codes), lessons_of()[0].opinions))
        return real(self, named, codes, n_classes, seed, lessons_of)

    monkeypatch.setattr(StudentTrainer, "train", spy)
    member.fit(demo_cells, demo_cells.codes, 7, 0, folds)
    teacher = member.teacher.fit(demo_cells, demo_cells.codes, 7, 0, folds)
    assert [n for n, _ in told] == [len(folds.train[0]), len(folds.train[1]), len(demo_cells)]
    for fold in range(2):
        some = demo_cells.subset(folds.train[fold])
        np.testing.assert_allclose(told[fold][1], teacher.without(fold).of_cells(some), atol=1e-6)
        tuned = teacher.without(fold).fitted[1]
        assert [v is teacher.fitted[1].versions[fold] for v in tuned.versions] == [True]


def test_a_whole_model_is_fitted_with_it(member, demo_cells) -> None:
    member.read(demo_cells)
    model = fit_model(demo_cells, (member,), parse_recipe("line", {"inner_folds": 2}), 0, "grouped")
    answers = model.answers(demo_cells)
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, atol=1e-6)


def test_pixels_of_unreadable_cells_are_left_out_and_named(demo_cells, tmp_path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    cells = demo_cells.with_cells([*demo_cells.cells[:3], replace(demo_cells.cells[0], path=str(broken))])
    table, failed = PixelReader((48, 32), "stretch", (), GEOMETRIC, 0).read(cells, "reading")
    assert len(table.rows) == 3
    assert list(failed) == [str(broken)]
    known = demo_cells.subset(np.arange(3))
    assert table.large(known).shape == (3, 48, 48, 3)
    np.testing.assert_array_equal(table.small(known)[1], resize(load(known.cells[1].path), 32))


def test_the_recipe_asks_for_crops() -> None:
    from cervicyte.training.assembly import make_members

    recipe = load_recipe("cytonet")
    (part,) = recipe.members
    assert (method_of(part), part.teacher) == ("distil", "ensemble")
    with pytest.raises(UsageError, match="--crops"):
        make_members(recipe.members, "random", None, 0, "geometric")


def test_a_few_crops_are_too_few(member, demo_cells) -> None:
    member.crops = demo_cells.subset(np.arange(20))
    member.read(demo_cells)
    with pytest.raises(DataError, match="too few crops"):
        _ = member.foundation


@pytest.mark.parametrize(
    "changes",
    [{"teacher": ""}, {"backbone": "ResNet50"}, {"method": "linear"}],
)
def test_method_backbone_and_teacher_belong_together(changes) -> None:
    with pytest.raises(UsageError, match="distil"):
        read_part({"name": "x", "method": "distil", "backbone": "cytonet", "teacher": "ensemble", **changes})


def test_teachers_that_differ_in_their_inner_folds_teach_other_students(member, demo_cells, monkeypatch) -> None:
    member.read(demo_cells)
    named: list[list[str]] = []
    real = StudentTrainer.train

    def spy(self, name, codes, n_classes, seed, lessons_of):
        named[-1].append(name)
        return real(self, name, codes, n_classes, seed, lessons_of)

    monkeypatch.setattr(StudentTrainer, "train", spy)
    for seed in (0, 1):
        named.append([])
        folds = splits.grouped_folds(demo_cells.codes, demo_cells.groups, 2, seed)
        member.fit(demo_cells, demo_cells.codes, 7, 0, folds)
    assert not set(named[0]) & set(named[1])


def test_a_crop_that_one_member_cannot_read_is_left_out(member, demo_cells, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    member.read(demo_cells)
    seat = member.teacher.seats[0].before_crops
    real = type(seat).has
    monkeypatch.setattr(type(seat), "has", lambda self, cells: real(self, cells) & (np.arange(len(cells)) != 3))
    crops, pixels, targets = member._taught
    assert len(crops) == len(pixels) == len(targets)
    assert f"cannot read 1 of {len(crops) + 1} crops" in capsys.readouterr().err
