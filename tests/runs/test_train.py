"""From cells to a bundle and an honest account: what is fitted where, what is written, what is refused."""

from __future__ import annotations

import csv
import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cervicyte.audit import leakage
from cervicyte.base import files
from cervicyte.data import readers, splits
from cervicyte.data.cells import CellTable
from cervicyte.decision.calibration import Answers, DecisionLimits
from cervicyte.errors import BundleError, DataError, ImageError, LeakageError, StorageError, UsageError
from cervicyte.evaluation.cross_validation import cross_validate
from cervicyte.evaluation.results import DIFFERS
from cervicyte.features.extraction import MorphologyExtractor
from cervicyte.runs import account
from cervicyte.runs.train import finish, train
from cervicyte.training import bundling, facts, judging
from cervicyte.training.cytonet.student import DistilledMember
from cervicyte.training.cytonet.teacher import Seat, Teacher
from cervicyte.training.divisions import divide, targeted
from cervicyte.training.fitting import fit_model
from cervicyte.training.members import FinetunedMember, LinearMember
from cervicyte.training.parts import Linear
from cervicyte.training.plan import Options, Team, check_space, make_plan, plan_with
from cervicyte.training.recipes import Recipe, load_recipe, parse_recipe
from support.commands import cervicyte, inside, read, three_parts
from support.runs import judged

NUMBERS = ("accuracy", "balanced_accuracy", "f1_macro", "auroc")


@pytest.fixture(scope="session")
def few(demo_cells) -> CellTable:
    """Two of the seven classes: 24 cells."""
    return demo_cells.subset(np.isin(demo_cells.labels.astype(str), ["normal_superficiel", "carcinoma_in_situ"]))


@pytest.fixture
def few_folder(few, tmp_path) -> Path:
    """The same cells in folders of their own, which a test may spoil."""
    folder = tmp_path / "cells"
    with_groups = ["path,group"]
    for cell in few.cells:
        place = folder / cell.label / Path(cell.path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.path, place)
        with_groups.append(f"{cell.label}/{place.name},{cell.group}")
    (folder / "groups.csv").write_text("\n".join(with_groups) + "\n")
    return folder


# What is written


def test_a_run_writes_numbers_predictions_report_figures_folds_and_bundle(trained, demo_cells) -> None:
    m = read(trained.folder / "metrics.json")
    assert (m["protocol"], m["n"]) == ("grouped", len(demo_cells))
    assert m["groups"] == len(set(demo_cells.groups))
    for section, names in (("native", NUMBERS), ("binary", ("accuracy", "auroc", "sensitivity", "specificity", "ece"))):
        for name in names:
            low, high = m[section][name]["ci95"]
            assert 0 <= low <= m[section][name]["value"] <= high <= 1, (section, name)
    with (trained.folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["path"] for r in rows] == demo_cells.paths
    assert [r["label"] for r in rows] == demo_cells.labels.tolist()
    right = np.mean([r["label"] == r["predicted"] for r in rows])
    assert m["native"]["accuracy"]["value"] == pytest.approx(right)
    for figure in (trained.folder / "figures").iterdir():
        with Image.open(figure) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
    assert {"confusion.png", "roc.png", "reliability.png"} <= {p.name for p in (trained.folder / "figures").iterdir()}
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert "http://" not in re.sub(r"http://www\.w3\.org\S*", "", page)
    assert "cervicyte train" in page
    assert "report.html" in trained.err  # the last line says what to open
    assert not (trained.folder / "failed.json").exists()


def test_grouped_folds_never_share_a_group_and_are_saved(trained, demo_cells) -> None:
    saved = read(trained.folder / "folds.json")
    assert saved["cells"] == demo_cells.paths
    grouped = splits.Folds.from_json(saved["protocols"]["grouped"])
    assert len(grouped) == 3
    assert sorted(np.concatenate(grouped.test).tolist()) == list(range(len(demo_cells)))
    for a, b in zip(grouped.train, grouped.test, strict=True):
        assert not splits.shared_groups(demo_cells.groups[a], demo_cells.groups[b])
    with (trained.folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        tested = [int(r["fold"]) for r in csv.DictReader(stream)]
    assert all(tested[row] == k for k, test in enumerate(grouped.test) for row in test)


def test_compare_gives_both_numbers_and_marks_the_optimistic_one_everywhere(trained) -> None:
    m = read(trained.folder / "metrics.json")
    assert m["protocol"] == "grouped"
    assert len(m["warnings"]) == 1
    assert "cannot be promised with so few" in m["warnings"][0]
    random = m["compared"]["random"]
    assert random["n"] == m["n"]
    assert random["native"]["log_loss"]["value"] != m["native"]["log_loss"]["value"]
    assert any("OPTIMISTIC" in w for w in random["warnings"])
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert "OPTIMISTIC" in page
    assert "OPTIMISTIC" in trained.out
    assert "gap" in trained.out.splitlines()[0]
    assert re.search(r"random: \d+% of the test cells have a sibling", trained.out)


def test_the_same_seed_gives_the_same_numbers_and_another_others(few, tmp_path) -> None:
    one = train(few, tmp_path / "a", folds=2, seed=1)
    two = train(few, tmp_path / "b", folds=2, seed=1)
    assert one.evaluations[0].metrics == two.evaluations[0].metrics
    for name in ("predictions.csv", "folds.json", "bundle/model.onnx"):
        assert files.sha256_file(one.folder / name) == files.sha256_file(two.folder / name), name
    other = divide(few, "grouped", 2, 2, False)
    assert other.to_json()["folds"] != read(one.folder / "folds.json")["protocols"]["grouped"]["folds"]
    assert (
        one.evaluations[0].command
        == "cervicyte.train(cells, out, 'morphology-lr', protocol='grouped', folds=2, seed=1)"
    )


# What is fitted where


class _Spy:
    """A predictor that answers from what it was shown, so that a peek at the test fold would be seen."""

    def __init__(self, seen: CellTable) -> None:
        self.seen = seen
        self.classes = seen.system.classes
        self.limits = DecisionLimits(
            threshold=0.5, sensitivity=0.95, normal_below=0.2, abnormal_from=0.8, confidence_from=0.0, max_risk=0.05
        )

    def answers(self, cells: CellTable) -> Answers:
        assert not set(self.seen.paths) & set(cells.paths)
        assert not set(self.seen.groups) & set(cells.groups)
        even = np.full((len(cells), len(self.classes)), 1 / len(self.classes))
        return Answers(even, np.zeros(len(cells), dtype=bool))


def test_fit_sees_the_training_rows_of_its_fold_and_no_other(demo_cells) -> None:
    folds = splits.make_folds(demo_cells, "grouped", 3, 0)
    seen: list[CellTable] = []

    def fit(cells: CellTable) -> _Spy:
        seen.append(cells)
        return _Spy(cells)

    found = cross_validate(demo_cells, fit, folds)
    assert [s.cells for s in seen] == [demo_cells.subset(t).cells for t in folds.train]
    assert list(found.paths) == demo_cells.paths
    assert found.folds.tolist() == [next(k for k, t in enumerate(folds.test) if i in t) for i in range(len(demo_cells))]


def test_labels_of_the_test_fold_change_no_prediction(demo_cells) -> None:
    recipe = load_recipe("morphology-lr")
    member = LinearMember(recipe.members[0], MorphologyExtractor())
    member.read(demo_cells)
    folds = splits.holdout(splits.make_folds(demo_cells, "grouped", 3, 0))

    def predicted(cells: CellTable):
        return cross_validate(cells, lambda part: fit_model(part, (member,), recipe, 0, "grouped"), folds)

    before = predicted(demo_cells)
    shuffled = list(demo_cells.cells)
    rows = folds.test[0]
    for row, other in zip(rows, np.random.default_rng(1).permutation(rows), strict=True):
        shuffled[row] = replace(shuffled[row], label=demo_cells.cells[other].label)
    after = predicted(demo_cells.with_cells(shuffled))
    assert (before.labels != after.labels).any()
    np.testing.assert_array_equal(before.probabilities, after.probabilities)
    np.testing.assert_array_equal(before.operating_point, after.operating_point)
    np.testing.assert_array_equal(before.uncertain, after.uncertain)
    # And it is not that labels never mattered: those of the training fold do.
    train_rows = folds.train[0]
    for row, other in zip(train_rows, np.random.default_rng(1).permutation(train_rows), strict=True):
        shuffled[row] = replace(shuffled[row], label=demo_cells.cells[other].label)
    assert (predicted(demo_cells.with_cells(shuffled)).probabilities != before.probabilities).any()


# Protocols


def test_as_published_is_marked_as_leaking_and_its_folds_name_the_copies(few, tmp_path, monkeypatch, capsys) -> None:
    from cervicyte.evaluation.summary import plain_table

    run = train(few, tmp_path / "run", load_recipe("morphology-lr").changed(copies=2), protocol="as-published", folds=2)
    m = read(run.folder / "metrics.json")
    assert (m["protocol"], m["n"]) == ("as-published", 3 * len(few))
    assert any(w.startswith("LEAKING") for w in m["warnings"])
    assert any(re.search(r"\d+% of the test images have a copy of the same cell", w) for w in m["warnings"])
    assert "LEAKING" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert "as-published: LEAKING" in plain_table(run.evaluations)
    # The bundle was fitted on the cells themselves: it speaks of the honest number, with the other one beside it.
    manifest = run.bundle.manifest
    assert manifest.scores == run.evaluations[1].metrics | {"compared": {"as-published": run.evaluations[0].metrics}}
    assert manifest.scores["protocol"] == manifest.training["facts"]["Protocol"] == "grouped"
    assert not any("LEAKING" in w for w in manifest.training["warnings"])
    card = (run.folder / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "under the protocol `grouped`" in card
    assert "leak" not in card.lower()
    saved = read(run.folder / "folds.json")["protocols"]["as-published"]
    assert len(saved["cells"]) == 3 * len(few)
    assert saved["cells"][1] == f"{few.cells[0].path} copy 1"
    assert max(max(f["test"]) for f in saved["folds"]) == len(saved["cells"]) - 1


def test_copies_that_cannot_be_read_are_told(few, tmp_path, monkeypatch) -> None:
    from cervicyte.features import extraction

    real, bad = extraction.augmented_copy, files.sha256_file(Path(few.cells[3].path))

    def broken(image, variant, key, *rest):
        if (variant, key) == (2, bad):
            raise ImageError("no copy could be made", "the cell")
        return real(image, variant, key, *rest)

    monkeypatch.setattr(extraction, "augmented_copy", broken)
    recipe = load_recipe("morphology-lr").changed(copies=2)
    plan, judgement = judged(few, recipe, protocol="as-published", folds=2, seed=77)
    assert list(plan.failed) == [f"{few.cells[3].path} copy 2"]
    assert "no copy could be made" in plan.failed[f"{few.cells[3].path} copy 2"]
    assert len(judgement.evaluations[0].predictions) == 3 * len(few) - 1
    assert len(judgement.evaluations[1].predictions) == len(few)
    assert read(finish(tmp_path / "run", plan, judgement).folder / "failed.json") == plan.failed


def test_a_leak_is_refused_before_the_first_training(few, tmp_path) -> None:
    twin = shutil.copy(few.cells[0].path, tmp_path / "twin.png")
    table = few.with_cells([*few.cells, replace(few.cells[0], path=str(twin), group="another")])
    first_tests = {s: divide(table, "grouped", 2, s, False).test[0] for s in range(20)}
    seed = next(s for s, rows in first_tests.items() if (0 in rows) != (len(few) in rows))

    recipe = load_recipe("morphology-lr").changed(copies=1)
    with pytest.raises(LeakageError, match="near duplicate") as raised:  # a plan trains nothing
        make_plan(table, recipe, Options(protocol="as-published", folds=2, seed=seed))
    assert "cervicyte data audit" in raised.value.todo


@pytest.mark.parametrize("fault", ["proof", "fit"])
def test_a_bundle_that_cannot_be_made_takes_no_numbers_with_it(few, tmp_path, monkeypatch, fault) -> None:
    def lies(*_: object) -> None:
        raise BundleError("the exported model does not say what the trained one says", "0.5", "please report this")

    def fails(cells: CellTable, *rest: object):
        if len(cells) == len(few):
            raise DataError("one cell too many", len(cells))
        return fit_model(cells, *rest)

    out = tmp_path / "run"
    for before in ("without a bundle", "of an earlier run"):
        with monkeypatch.context() as patch:
            patch.setattr(bundling, "prove", lies)
            if fault == "fit":
                patch.setattr(judging, "fit_model", fails)
            with pytest.raises(BundleError if fault == "proof" else DataError) as raised:
                train(few, out, folds=2, seed=1)
        assert str(out) in raised.value.todo
        assert before in raised.value.todo
        for name in ("metrics.json", "predictions.csv", "folds.json", "recipe.json", "report.html"):
            assert (out / name).is_file(), name
        assert read(out / "metrics.json")["n"] == len(few)
        if not (out / "bundle").exists():
            (out / "report.html").unlink()
            (out / "bundle").mkdir()


# Crops without labels


def test_crops_that_would_be_ignored_and_students_of_copies_are_refused(few, tmp_path) -> None:
    with pytest.raises(UsageError, match="--crops would do nothing"):
        train(few, tmp_path / "run", "morphology-lr", crops=[tmp_path])
    with pytest.raises(UsageError, match="no as-published number") as raised:
        train(few, tmp_path / "run", "cytonet", protocol="as-published", crops=[tmp_path])
    assert "--protocol grouped" in raised.value.todo
    with pytest.raises(UsageError, match="no as-published number"):
        train(few, tmp_path / "run", "cytonet", compare=("as-published",), crops=[tmp_path])


def test_crops_cut_from_the_cells_own_files_are_a_leak(few, tmp_path) -> None:
    copy = shutil.copy(few.cells[5].path, tmp_path / "field.png")
    crops = few.with_cells([replace(few.cells[5], path=str(copy), box=(0, 0, 30, 30))])
    team = Team(members=(SimpleNamespace(crops=crops),))
    with pytest.raises(LeakageError, match="files of the data set itself") as raised:
        plan_with(team, few, load_recipe("cytonet"), Options(crops=(str(tmp_path),)))
    assert "field.png" in raised.value.received
    others = few.subset(few.labels.astype(str) == "normal_superficiel")
    leakage.check_crops(few.subset(few.labels.astype(str) != "normal_superficiel"), others)


def test_the_facts_name_the_crops_and_what_else_the_published_way_changes(few) -> None:
    def told(protocol: str, recipe: Recipe, crops: CellTable | None = None) -> dict[str, str]:
        member = SimpleNamespace(name="m", part=recipe.members[0], weights="some", precision="float32", crops=crops)
        division = splits.holdout(splits.random_folds(few.codes, 2, 0, protocol))
        return facts.describe(few, recipe, (member,), protocol, division, 0)

    tuned = {"method": "finetune", "backbone": "ResNet50", "published_validation": 0.12}
    linear, tuned = parse_recipe("l", {}), parse_recipe("t", tuned)
    assert told("grouped", linear, crops=few)["Crops"] == few.fingerprint
    assert "Crops" not in told("grouped", linear)
    assert DIFFERS not in told("as-published", linear)  # the copies and their division alone
    assert DIFFERS not in told("grouped", tuned)
    differs = told("as-published", tuned)[DIFFERS]
    assert "average no flips" in differs
    assert "12%" in differs


def test_activations_that_do_not_fit_side_by_side_are_refused_before_the_work(few, monkeypatch) -> None:
    def member(key: str) -> FinetunedMember:
        made = FinetunedMember.__new__(FinetunedMember)
        made.extractor = SimpleNamespace(key=key, dimension=10**8)  # 4.8 GB for 24 cells
        return made

    monkeypatch.setenv("CERVICYTE_CACHE_GB", "9")
    check_space([(few, (member("a"), member("a"), LinearMember(Linear(name="m"), MorphologyExtractor())))])
    student = DistilledMember.__new__(DistilledMember)
    student.teacher = Teacher([Seat(member(key), member(key)) for key in "ab"])
    for tables in (
        [(few, (student,))],
        [(few, (member("a"), member("b")))],
        [(few, (member("a"),)), (few, (member("b"),))],
    ):
        with pytest.raises(StorageError, match=r"needs 9\.6 GB") as raised:
            check_space(tables)
        assert "raise CERVICYTE_CACHE_GB" in raised.value.todo


def test_provided_folders_are_the_division_unless_folds_are_asked_for(few_folder, tmp_path) -> None:
    cells = readers.load(few_folder)
    halves = sorted(set(cells.groups))[::3]
    divided = tmp_path / "divided"
    rows = ["path,group"]
    for cell, group in zip(cells.cells, cells.groups, strict=True):
        place = Path("test" if group in halves else "train", cell.label, Path(cell.path).name)
        (divided / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.path, divided / place)
        rows.append(f"{place},{cell.group}")
    (divided / "groups.csv").write_text("\n".join(rows) + "\n")
    table = readers.load(divided)
    in_test = [c.path for c in table.cells if c.split == "test"]
    assert 0 < len(in_test) < len(table)
    (evaluation,) = judged(table)[1].evaluations
    assert list(evaluation.predictions.paths) == in_test
    assert evaluation.facts["Folds"] == "1"
    asked = divide(table, "grouped", 2, 0, False)
    assert sum(map(len, asked.test)) == len(table)


def test_holdout_tests_the_first_fold_only(few) -> None:
    plan, judgement = judged(few, folds=4, holdout=True)
    whole = splits.make_folds(few, "grouped", 4, 0)
    assert list(judgement.evaluations[0].predictions.paths) == few.subset(whole.test[0]).paths
    assert len(account.folds_of(plan)["protocols"]["grouped"]["folds"]) == 1


def test_without_groups_the_numbers_carry_a_warning(few, tmp_path) -> None:
    cells = tuple(replace(c, group=Path(c.path).name) for c in few.cells)
    run = train(replace(few, cells=cells, grouped=False), tmp_path / "run", folds=2)
    assert any("NO GROUPS" in w for w in read(run.folder / "metrics.json")["warnings"])
    assert "NO GROUPS" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_binary_target_takes_the_map_that_is_named(few) -> None:
    plan, judgement = judged(few, load_recipe("morphology-lr").changed(target="binary"), folds=2)
    assert bundling.describe(plan, judgement.model, judgement.evaluations).classes == ("normal", "abnormal")
    assert judgement.evaluations[0].predictions.system.name == "binary"


# Bad input


def test_bad_files_are_listed_and_stop_nothing(few_folder, tmp_path) -> None:
    bad = few_folder / "carcinoma_in_situ"
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.png").write_text("this is no picture")
    good = next(p for p in sorted(bad.glob("*.png")) if p.stat().st_size > 500)
    (bad / "truncated.png").write_bytes(good.read_bytes()[:300])
    with (few_folder / "groups.csv").open("a") as stream:
        stream.writelines(f"carcinoma_in_situ/{name}.png,X{name}\n" for name in ("empty", "text", "truncated"))
    out = tmp_path / "run"
    done = cervicyte("train", few_folder, "--out", out, "--folds", "2")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    failed = read(out / "failed.json")
    assert sorted(Path(p).name for p in failed) == ["empty.png", "text.png", "truncated.png"]
    assert "0 bytes" in failed[str(bad / "empty.png")]
    assert read(out / "metrics.json")["n"] == 24
    assert "failed.json" in done.stderr
    assert "truncated.png" in (out / "report.html").read_text(encoding="utf-8")
    # Another run into the same folder, with the files mended, must not keep the old list.
    for name in failed:
        Path(name).unlink()
    (few_folder / "groups.csv").write_text(
        "\n".join(
            line
            for line in (few_folder / "groups.csv").read_text().splitlines()
            if not re.search("empty|text|trunc", line)
        )
    )
    train(readers.load(few_folder), out, folds=2)
    assert not (out / "failed.json").exists()


def test_nothing_readable_is_an_error(few, tmp_path) -> None:
    cells = tuple(replace(c, path=c.path + ".gone") for c in few.cells)
    with pytest.raises(DataError, match="no cell can be read"):
        train(few.with_cells(cells), tmp_path / "run")


def test_sets_that_cannot_be_divided_are_refused_before_any_work(few, tmp_path, monkeypatch, capsys) -> None:
    def never(*_: object) -> None:
        raise AssertionError("features were computed first")

    monkeypatch.setattr("cervicyte.training.members.extract_table", never)
    one_class = few.subset(few.labels.astype(str) == "normal_superficiel")
    with pytest.raises(DataError, match="at least two classes"):
        train(one_class, tmp_path / "run")
    groups = len(set(one_class.groups))
    with pytest.raises(DataError, match="fewer groups than folds") as raised:
        train(few, tmp_path / "run", folds=groups + 3)
    assert re.search("class '(normal_superficiel|carcinoma_in_situ)' has", raised.value.received)
    assert f"--folds {groups}" in raised.value.todo or "--folds" in raised.value.todo
    with pytest.raises(UsageError, match="at least two folds"):
        train(few, tmp_path / "run", folds=0)
    with pytest.raises(UsageError, match="at least two folds"):
        train(few, tmp_path / "run", folds=1)
    with pytest.raises(UsageError, match="seed"):
        train(few, tmp_path / "run", seed=-1)
    with pytest.raises(UsageError, match="did you mean 'grouped'"):
        train(few, tmp_path / "run", protocol="groupd")
    with pytest.raises(UsageError, match="unknown precision"):
        train(few, tmp_path / "run", precision="float8")
    with pytest.raises(UsageError, match="do nothing"):
        train(few, tmp_path / "run", parse_recipe("x", {"size": 64}))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        train(few, tmp_path / "file" / "run")
    monkeypatch.setenv("CERVICYTE_ENGINE", "warp")
    with pytest.raises(UsageError, match="CERVICYTE_ENGINE"):
        train(few, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_with_one_group_in_a_training_fold_is_named(few, tmp_path) -> None:
    rare = [
        replace(c, group=c.group if c.label != "carcinoma_in_situ" else f"R{i % 2}") for i, c in enumerate(few.cells)
    ]
    with pytest.raises(DataError, match="single group") as raised:
        train(few.with_cells(rare), tmp_path / "run", folds=2)
    assert "carcinoma_in_situ" in raised.value.received


def test_a_folder_without_images_or_with_one_class_ends_with_a_message(tmp_path, few, monkeypatch, capsys) -> None:
    (tmp_path / "empty").mkdir()
    code, _, said = inside(monkeypatch, capsys, "train", tmp_path / "empty", "--out", tmp_path / "run")
    assert code == 4
    assert three_parts(said)
    (tmp_path / "one" / "only").mkdir(parents=True)
    for cell in few.cells[:6]:
        shutil.copy(cell.path, tmp_path / "one" / "only")
    code, _, said = inside(monkeypatch, capsys, "train", tmp_path / "one", "--out", tmp_path / "run")
    assert code == 4
    assert "classes" in said
    assert "Traceback" not in said
    code, _, said = inside(monkeypatch, capsys, "train", tmp_path / "gone", "--out", tmp_path / "run")
    assert code == 6
    assert three_parts(said)


def test_labels_unknown_to_the_reader_or_the_map_are_refused(tmp_path, few, few_folder, monkeypatch, capsys) -> None:
    table = tmp_path / "cells.csv"
    table.write_text(
        "path,label,group\n" + "".join(f"{c.path},kind{i % 2},{c.group}\n" for i, c in enumerate(few.cells))
    )
    code, _, said = inside(monkeypatch, capsys, "train", table, "--out", tmp_path / "run", "--target", "binary")
    assert code == 2
    assert "--normal" in said
    assert three_parts(said)
    with pytest.raises(UsageError, match="no map"):
        targeted(readers.load(table), load_recipe("morphology-lr").changed(target="bethesda"))


def test_a_full_disk_leaves_the_old_run_as_it_was(few, tmp_path, monkeypatch) -> None:
    run = train(few, tmp_path / "run", folds=2, seed=1)
    before = {p.relative_to(run.folder): files.sha256_file(p) for p in run.folder.rglob("*") if p.is_file()}
    real = files.os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        train(few, tmp_path / "run", folds=2, seed=2)
    monkeypatch.setattr(files.os, "fsync", real)
    assert {p.relative_to(run.folder): files.sha256_file(p) for p in run.folder.rglob("*") if p.is_file()} == before
    assert not [p for p in run.folder.iterdir() if p.name.startswith(".")]
