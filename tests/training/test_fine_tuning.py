"""Training the last blocks: the schedule, the loss, early stopping, resuming, and what no training may see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cervicyte import settings
from cervicyte.base import working_folder
from cervicyte.base.checkpoints import Computation
from cervicyte.data import splits
from cervicyte.data.splits import Folds
from cervicyte.decision.calibration import softmax
from cervicyte.decision.linear import fit_linear
from cervicyte.errors import DataError
from cervicyte.features import activations
from cervicyte.features.activations import ActivationTable, PrefixExtractor
from cervicyte.images import decoding
from cervicyte.networks.keras import export
from cervicyte.networks.keras.last_blocks import tail_features
from cervicyte.networks.registry import find_weights, get_backbone, import_keras
from cervicyte.networks.runtime import Engine
from cervicyte.training import fine_tuning
from cervicyte.training.fine_tuning import TailTrainer
from cervicyte.training.fitting import fit_model
from cervicyte.training.members import FinetunedMember, make_member
from cervicyte.training.parts import Finetune
from cervicyte.training.recipes import Recipe
from cervicyte.training.schedule import Schedule
from cervicyte.training.tail_files import TrainedTail
from support.generated_cells import make_cell, save
from support.sharing import needs

pytestmark = needs("torch")

NETWORK = get_backbone("MobileNetV2", size=64)
RANDOM = find_weights(NETWORK, "random")
#: Before the last blocks of this network at 64 px.
CUT = (2, 2, 160)
CLASSES, CELLS = 3, 30
TRAIN, HELD = np.arange(20), np.arange(20, 30)
QUICK = Schedule(epochs=1, batch_size=10, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache of the test's own, with the networks that were exported before."""
    exports = settings.get_path("cache_dir") / "exports"
    exports.mkdir(parents=True, exist_ok=True)
    return _empty_cache(tmp_path_factory, monkeypatch, exports)


def _empty_cache(tmp_path_factory, monkeypatch, exports: Path) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    (folder / "exports").symlink_to(exports.resolve())
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(folder))
    return folder


def made_table(seed: int = 0, views: int = 2, orientations: int = 1, key: str = "table") -> ActivationTable:
    """Activations that tell their class, and its noise, from a seed."""
    random = np.random.default_rng(seed)
    classes = random.normal(size=(CLASSES, 1, *CUT)) * 0.4
    maps = classes[codes_of()] + random.normal(size=(CELLS, views, *CUT)) * 0.5
    return ActivationTable(maps.astype(np.float16), {}, orientations, key, [f"{seed}-{i}" for i in range(CELLS)])


def codes_of() -> np.ndarray:
    return np.arange(CELLS) % CLASSES


def made_trainer(table: ActivationTable | None = None, schedule: Schedule = QUICK, precision="float32") -> TailTrainer:
    return TailTrainer(NETWORK, RANDOM, table or made_table(), schedule, precision)


def trained(trainer: TailTrainer, seed: int = 0, codes: np.ndarray | None = None) -> TrainedTail:
    codes = codes_of() if codes is None else codes
    return trainer.train(TRAIN, codes[TRAIN], HELD, codes[HELD], CLASSES, seed)


def same(a: TrainedTail, b: TrainedTail) -> bool:
    """Whether two trainings gave the same bits."""
    pairs = [*zip(a.arrays, b.arrays, strict=True), (a.head.weights, b.head.weights), (a.head.bias, b.head.bias)]
    return all(x.tobytes() == y.tobytes() for x, y in [*pairs, (a.logits, b.logits)]) and a.history == b.history


# How it is trained


def test_training_starts_from_the_regression_on_frozen_features() -> None:
    trainer = made_trainer(schedule=replace(QUICK, learning_rate=0.0, head_learning_rate=0.0))
    found = trained(trainer)
    frozen = trainer.frozen(np.arange(CELLS))
    head = fit_linear(frozen[TRAIN], codes_of()[TRAIN], CLASSES, fine_tuning.HEAD_C)
    assert all(np.array_equal(a, b) for a, b in zip(found.arrays, trainer.initial, strict=True))
    np.testing.assert_allclose(found.head.logits(frozen), head.logits(frozen), atol=1e-4)
    np.testing.assert_allclose(found.logits, head.logits(frozen[HELD]), atol=1e-4)
    assert (found.history[0]["epoch"], found.history[0]["train_loss"]) == (0, None)


def test_training_lowers_the_loss_and_moves_every_weight() -> None:
    trainer = made_trainer(schedule=replace(QUICK, epochs=8))
    losses = [row["train_loss"] for row in trained(trainer).history[1:]]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    moved = zip(trainer.tail.get_arrays(), trainer.initial, strict=True)
    assert all((now != before).any() for now, before in moved)


def test_learning_rates_warm_up_and_go_down_to_zero_along_a_cosine(monkeypatch) -> None:
    import torch

    seen = []

    class Spy(torch.optim.AdamW):
        def step(self, *args, **options):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(*args, **options)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    schedule = Schedule(epochs=10, patience=100, batch_size=7, learning_rate=1e-4, head_learning_rate=1e-3)
    trained(made_trainer(schedule=schedule))
    total, warm = 30, 3  # three steps for twenty cells
    steps = np.arange(total)
    expected = np.minimum(1, (steps + 1) / warm) * 0.5 * (1 + np.cos(np.pi * steps / total))
    np.testing.assert_allclose(seen, np.outer(expected, (1e-4, 1e-3)), rtol=1e-9)
    assert max(seen)[0] == pytest.approx(1e-4, rel=0.02)
    assert seen[-1][0] < 0.01 * 1e-4


@pytest.mark.parametrize(("weight", "smoothing"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.0), (1.0, 0.3)])
def test_the_loss_has_class_weights_and_label_smoothing(weight, smoothing) -> None:
    """One step over all cells: its loss is that of the head on frozen features, written out here."""
    codes = np.where(np.arange(CELLS) % 10 == 0, 2, np.arange(CELLS) % 2)
    schedule = Schedule(epochs=1, batch_size=CELLS, class_weight=weight, label_smoothing=smoothing)
    trainer = made_trainer(made_table(views=1), schedule)
    found = trained(trainer, codes=codes)
    frozen, truth = trainer.frozen(TRAIN), codes[TRAIN]
    logs = np.log(softmax(fit_linear(frozen, truth, CLASSES, fine_tuning.HEAD_C).logits(frozen)))
    balance = (len(truth) / CLASSES / np.bincount(truth)) ** weight
    targets = (1 - smoothing) * np.eye(CLASSES)[truth] + smoothing / CLASSES
    expected = -(targets * balance * logs).sum() / balance[truth].sum()
    assert found.history[-1]["train_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("patience", "last"), [(1, 2), (2, 2), (3, 4), (4, 4), (5, 6)])
def test_patience_counts_epochs_without_a_better_score_and_the_best_version_is_kept(patience, last) -> None:
    schedule = Schedule(epochs=20, patience=patience, batch_size=20, learning_rate=0.0, head_learning_rate=0.0)
    trainer = made_trainer(schedule=schedule)
    found = trained(trainer)
    assert found.history[-1]["epoch"] == last
    np.testing.assert_array_equal(found.arrays[0], trainer.initial[0])


def test_the_version_with_the_lowest_brier_score_is_kept() -> None:
    trainer = made_trainer(schedule=Schedule(epochs=12, patience=12, batch_size=5, learning_rate=3e-3))
    found = trained(trainer)
    best = min(found.history, key=lambda row: row["brier"])
    np.testing.assert_allclose(trainer.logits([found], HELD), found.logits, atol=1e-12)
    p = softmax(found.logits, fine_tuning.fit_temperature(found.logits, codes_of()[HELD]))
    brier = ((p - np.eye(CLASSES)[codes_of()[HELD]]) ** 2).sum(axis=1).mean()
    assert brier == pytest.approx(best["brier"])
    accuracy = (found.logits.argmax(axis=1) == codes_of()[HELD]).mean()
    assert accuracy == pytest.approx(best["accuracy"])


def test_a_class_without_training_cells_is_refused_even_where_a_result_is_known() -> None:
    trainer = made_trainer()
    trained(trainer)
    codes = codes_of()
    with pytest.raises(DataError, match="without one of the classes") as raised:
        trainer.train(TRAIN, codes[TRAIN], HELD, codes[HELD], CLASSES + 1, 0)
    assert "7, 7, 6, 0" in raised.value.received


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_loss_that_is_not_finite_ends_with_a_message(epochs, own_cache) -> None:
    schedule = Schedule(epochs=epochs, batch_size=5, learning_rate=1e30, weight_decay=0.0)
    with pytest.raises(DataError, match="not finite") as raised:
        trained(made_trainer(schedule=schedule))
    assert "learning_rate" in raised.value.todo
    assert not list(own_cache.rglob("*.npz"))


def test_mean_logits_of_versions_average_orientations() -> None:
    trainer = made_trainer(made_table(views=5, orientations=4))
    one, two = trained(trainer, seed=0), trained(trainer, seed=1)
    both = trainer.logits([one, two], HELD)
    np.testing.assert_allclose(both, (trainer.logits([one], HELD) + trainer.logits([two], HELD)) / 2, atol=1e-12)
    single = trainer.table
    total = []
    for k in range(4):
        view = replace(single, maps=single.maps[:, k : k + 1], orientations=1)
        total.append(made_trainer(view).logits([one], HELD))
    np.testing.assert_allclose(trainer.logits([one], HELD), np.mean(total, axis=0), atol=1e-4)


# The naive way


def test_cached_training_equals_training_the_whole_network_on_images(demo_cells, tmp_path) -> None:
    """Keras runs every layer on the images, each step; the cached way trains from activations kept in 16 bits."""
    import torch

    keras = import_keras()
    some = demo_cells.subset(np.flatnonzero(np.isin(demo_cells.codes, (0, 6))))
    codes = (some.codes == 6).astype(np.int64)
    rows, held = np.flatnonzero(np.arange(len(some)) % 3), np.flatnonzero(np.arange(len(some)) % 3 == 0)
    pixels = np.stack([decoding.resize(decoding.load(c.path), 64) for c in some.cells])
    prepared = torch.from_numpy(keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32)))
    # Random kernels make features that hardly differ; with the statistics of these images they do, as trained ones.
    network = export.build_network(NETWORK, RANDOM)
    for layer in network.layers:
        layer.momentum = 0.0
    network(prepared, training=True)
    file = tmp_path / NETWORK.weights_file
    network.save_weights(file)
    schedule = Schedule(epochs=6, patience=9, batch_size=6, learning_rate=1e-4, averaging=0.0)
    extractor = PrefixExtractor(NETWORK, str(file), precision="float32")
    table, errors = activations.compute(some, extractor)
    assert not errors
    trainer = TailTrainer(NETWORK, extractor.weights, table, schedule, "float32")
    cached = trainer.train(rows, codes[rows], held, codes[held], 2, 5)
    losses, features, logits = _naive(network, prepared, codes, rows, held, schedule, 5)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose([row["train_loss"] for row in cached.history[1:]], losses[1::2], rtol=0.01)
    ours = tail_features(trainer.tail, np.asarray(table.maps[held, 0]))
    np.testing.assert_allclose(ours, features, atol=0.01 * np.abs(features).max())
    p = softmax(logits, fine_tuning.fit_temperature(logits, codes[held]))
    brier = float(((p - np.eye(2)[codes[held]]) ** 2).sum(axis=1).mean())
    assert cached.history[-1]["epoch"] == schedule.epochs
    assert cached.history[-1]["brier"] == pytest.approx(brier, abs=0.01)


def _naive(network, prepared, codes, rows, held, schedule: Schedule, seed: int):
    """Losses of each epoch, then features and logits of the held cells, of the last blocks trained in Keras."""
    import torch

    keras = import_keras()
    cut = network.get_layer(export.cut_layer(network, NETWORK.tail))
    frozen_layers = {layer.name for layer in keras.Model(network.input, cut.output).layers}
    for layer in network.layers:
        layer.trainable = layer.name not in frozen_layers
    variables = [v.value for v in network.trainable_variables]

    def run(which: np.ndarray) -> torch.Tensor:
        return network(prepared[torch.from_numpy(which)], training=False).mean((1, 2))

    with torch.no_grad():
        frozen = run(rows).cpu().numpy()
    head = fit_linear(frozen, codes[rows], 2, fine_tuning.HEAD_C)
    mean, scale = torch.from_numpy(frozen.mean(axis=0)), torch.from_numpy(frozen.std(axis=0) + 1e-6)
    weights = torch.nn.Parameter(torch.tensor(head.weights, dtype=torch.float32) * scale[:, None])
    bias = torch.nn.Parameter(torch.tensor(head.bias + frozen.mean(axis=0) @ head.weights, dtype=torch.float32))
    optimiser = torch.optim.AdamW([{"params": variables}, {"params": [weights, bias]}], 1.0, weight_decay=0.02)
    balance = (len(rows) / 2 / np.bincount(codes[rows])) ** schedule.class_weight
    loss_of = torch.nn.CrossEntropyLoss(
        torch.tensor(balance, dtype=torch.float32), label_smoothing=schedule.label_smoothing
    )
    steps = -(-len(rows) // schedule.batch_size)
    total, losses = steps * schedule.epochs, []
    for epoch in range(schedule.epochs):
        order = np.random.default_rng([seed, epoch + 1]).permutation(len(rows))
        each = []
        for step in range(steps):
            done = epoch * steps + step
            rate = min(1, (done + 1) / max(1, total // 10)) * 0.5 * (1 + np.cos(np.pi * done / total))
            optimiser.param_groups[0]["lr"] = rate * schedule.learning_rate
            optimiser.param_groups[1]["lr"] = rate * schedule.head_learning_rate
            which = rows[order[step::steps]]
            loss = loss_of((run(which) - mean) / scale @ weights + bias, torch.from_numpy(codes[which]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            each.append(float(loss.detach()))
        losses.append(np.mean(each))
    with torch.no_grad():
        features = run(held)
        logits = (features - mean) / scale @ weights + bias
    return losses, features.numpy(), logits.numpy().astype(np.float64)


# What is kept, and under which name


def test_a_training_is_done_once(monkeypatch) -> None:
    first = trained(made_trainer())
    monkeypatch.setattr(fine_tuning, "_State", lambda *_: pytest.fail("trained again"))
    assert same(trained(made_trainer()), first)


def test_every_input_of_a_training_is_part_of_its_name(own_cache) -> None:
    """Each change trains anew: nothing is taken from disk that was made of something else."""
    codes = codes_of()
    table, quick = made_table(), QUICK
    other = codes.copy()
    other[HELD[:2]] = other[HELD[:2]][::-1]
    swapped = codes.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    images_changed = replace(table, digests=["changed", *table.digests[1:]])
    held_changed = replace(table, digests=[*table.digests[:-1], "changed"])
    plain, moved = made_trainer(table), HELD[::-1].copy()
    runs = [
        lambda: trained(plain),
        lambda: trained(plain, seed=1),
        lambda: trained(plain, codes=swapped),
        lambda: trained(plain, codes=other),
        lambda: plain.train(TRAIN[:-1], codes[TRAIN[:-1]], HELD, codes[HELD], CLASSES, 0),
        lambda: plain.train(TRAIN, codes[TRAIN], HELD[:-1], codes[HELD[:-1]], CLASSES, 0),
        lambda: plain.train(TRAIN, codes[TRAIN], moved, codes[moved], CLASSES, 0),
        lambda: trained(made_trainer(images_changed)),
        lambda: trained(made_trainer(held_changed)),
        lambda: trained(made_trainer(replace(table, key="other activations"))),
        lambda: trained(TailTrainer(NETWORK, find_weights(NETWORK, "random", seed=1), table, quick, "float32")),
    ]
    changes = {
        "patience": 3, "batch_size": 20, "learning_rate": 2e-3, "head_learning_rate": 2e-3, "weight_decay": 0.1,
        "label_smoothing": 0.0, "class_weight": 0.0, "averaging": 0.5, "epochs": 2,
    }  # fmt: skip
    assert set(changes) == set(vars(quick))
    runs += [lambda c=c: trained(made_trainer(table, replace(quick, **{c: changes[c]}))) for c in changes]
    for number, run in enumerate(runs, 1):
        run()
        assert len(list(own_cache.glob("finetuning/tails/*.npz"))) == number


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "another file's arrays", "a flipped byte"])
def test_a_damaged_result_is_ignored_and_trained_again(own_cache, damage) -> None:
    first = trained(made_trainer())
    (path,) = own_cache.glob("finetuning/tails/*.npz")
    data = path.read_bytes()
    if damage == "another file's arrays":
        with path.open("wb") as stream:
            np.savez(stream, x=np.zeros(3))
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        kinds = {"truncated": data[:-100], "empty": b"", "text": b"no arrays here", "a flipped byte": flipped}
        path.write_bytes(kinds[damage])
    assert same(trained(made_trainer()), first)
    assert path.read_bytes() != b""


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file"])
def test_a_damaged_checkpoint_is_ignored(own_cache, monkeypatch, damage) -> None:
    schedule = replace(QUICK, epochs=4)
    whole = trained(made_trainer(schedule=schedule))
    (path,) = own_cache.glob("finetuning/tails/*.npz")
    path.with_suffix(".checkpoint.npz").write_bytes(damage)
    path.unlink()
    assert same(trained(made_trainer(schedule=schedule)), whole)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # the checkpoint is gone


# Killed

SCHEDULE = replace(QUICK, epochs=9, patience=9)


def killed_child() -> None:
    """Train as the tests do, and wait in the fifth epoch for the kill."""
    real = fine_tuning._State.run

    def run(self, epoch: int) -> None:
        print(epoch, flush=True)
        if epoch == 5:
            time.sleep(600)
        real(self, epoch)

    fine_tuning._State.run = run
    fine_tuning.CHECKPOINT_SECONDS = 0.0
    trained(made_trainer(schedule=SCHEDULE))


def test_after_a_kill_training_goes_on_and_gives_the_same_bits(own_cache, tmp_path_factory, monkeypatch) -> None:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r})\nimport test_fine_tuning as t; t.killed_child()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        for line in child.stdout:
            if line.strip() == "5":
                break
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert list(own_cache.glob("finetuning/tails/*.checkpoint.npz"))
    assert len(list(own_cache.glob("finetuning/tails/*.npz"))) == 1  # nothing but the checkpoint

    seen, real = [], fine_tuning._State.run
    monkeypatch.setattr(fine_tuning._State, "run", lambda self, epoch: (seen.append(epoch), real(self, epoch))[1])
    resumed = trained(made_trainer(schedule=SCHEDULE))
    assert seen == [5, 6, 7, 8, 9]
    _empty_cache(tmp_path_factory, monkeypatch, own_cache / "exports")
    seen.clear()
    whole = trained(made_trainer(schedule=SCHEDULE))
    assert seen == list(range(1, 10))
    assert same(resumed, whole)
    assert not list(own_cache.rglob("*.checkpoint.npz"))


def test_a_fold_trains_the_same_whether_those_before_it_were_trained_or_known(tmp_path_factory, monkeypatch) -> None:
    """A run that goes on with its second fold must not differ from one that began with its first."""
    cache = settings.get_path("cache_dir")
    codes = codes_of()
    second = (np.arange(3, 30), codes[3:], np.arange(3), codes[:3], CLASSES, 0)
    both = made_trainer()
    trained(both)
    after = both.train(*second)
    _empty_cache(tmp_path_factory, monkeypatch, cache / "exports")
    assert same(made_trainer().train(*second), after)


# Honest


def _read_cells(folder: Path, spoiled: np.ndarray, seed: int):
    """24 cells of two classes in 12 groups; the pictures and labels of the spoiled rows come from another seed."""
    from cervicyte.data.cells import Cell, CellTable
    from cervicyte.data.labels import BINARY

    cells = []
    for i in range(24):
        another = seed if i in spoiled else 0
        path = save(make_cell(1000 * another + i, 64), folder / f"{another}-{i}.png")
        label = BINARY.classes[(i + another) % 2]
        cells.append(Cell(path=path, label=label, group=f"g{i // 2}"))
    return CellTable(cells=tuple(cells), system=BINARY)


def _member(part: Finetune) -> FinetunedMember:
    member = make_member(part, "random", "float32", 0, "geometric")
    assert isinstance(member, FinetunedMember)
    return member


PART = Finetune(name="small", backbone="MobileNetV2", size=64, variants=1, epochs=2, batch_size=8, learning_rate=1e-3)
RECIPE = Recipe(name="small", members=(PART,), inner_folds=2)


def test_nothing_of_the_test_fold_changes_the_fitted_model(tmp_path, tmp_path_factory, monkeypatch) -> None:
    exports = settings.get_path("cache_dir") / "exports"
    plain = _read_cells(tmp_path, np.arange(0), 0)
    fold = splits.make_folds(plain, "grouped", 3, 0)
    rows, test = fold.train[0], fold.test[0]
    seen = []
    real = TailTrainer.train

    def spy(self, *args):
        seen.append((args[0], args[2]))
        return real(self, *args)

    monkeypatch.setattr(TailTrainer, "train", spy)

    def fitted(cells):
        _empty_cache(tmp_path_factory, monkeypatch, exports)
        member = _member(PART)
        assert not member.read(cells)
        return fit_model(cells.subset(rows), (member,), RECIPE, 0, "grouped")

    before = fitted(plain)
    for some, held in seen:
        assert not set(some) & set(test)
        assert not set(held) & set(test)
        assert not set(plain.groups[some]) & set(plain.groups[held])
        assert sorted([*some, *held]) == sorted(rows)
    after = fitted(_read_cells(tmp_path, test, 7))
    for a, b in zip(before.members[0].versions, after.members[0].versions, strict=True):
        assert same(a, b)
    assert (before.temperatures, before.limits) == (after.temperatures, after.limits)
    # And it is not that nothing ever mattered: one training cell does.
    other = fitted(_read_cells(tmp_path, rows[:1], 7))
    assert not same(other.members[0].versions[0], before.members[0].versions[0])


# One graph


@pytest.mark.parametrize("orientations", [1, 4, 8])
def test_the_graph_gives_the_calibrated_answer_of_the_versions(orientations, tmp_path) -> None:
    cells = _read_cells(tmp_path, np.arange(0), 0)
    member = _member(msgspec.structs.replace(PART, orientations=orientations, epochs=2))
    member.read(cells)
    thirds = np.arange(24) % 3
    apart = [np.flatnonzero(thirds != k) for k in (0, 1)]
    folds = Folds("grouped", 0, tuple(apart), tuple(np.flatnonzero(thirds == k) for k in (0, 1)))
    found = member.fit(cells, cells.codes, 2, 0, folds)
    assert len(found.versions) == 2
    assert np.isnan(found.oof[thirds == 2]).all()
    assert np.isfinite(found.oof[thirds != 2]).all()
    assert [row["epoch"] for row in found.curves[0]] == [0, 2]
    graph = found.graph(1.7)
    pixels = np.stack([decoding.resize(decoding.load(c.path), 64, "stretch") for c in cells.cells])
    answer = Engine(graph, ("probabilities", "activation_map"), precision="float32").run(pixels)
    expected = softmax(found.logits(cells), 1.7)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=2e-3)
    assert answer["activation_map"].shape == (24, 2, 2, 2)
    again = softmax(answer["activation_map"].mean(axis=(1, 2)).astype(float))
    np.testing.assert_allclose(again, answer["probabilities"], atol=1e-5)


def test_jobs_say_nothing_of_what_is_not_there() -> None:
    job = Computation("0" * 64, "tails")
    assert job.result() is None
    assert job.checkpoint() is None
    assert not working_folder.folder().exists()
