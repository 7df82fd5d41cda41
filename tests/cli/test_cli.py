"""The command line: quick to answer, exact about what was wrong, and one exit code for each kind of end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cervicyte import settings
from cervicyte.errors import EXIT_CODES, UsageError
from support.commands import cervicyte, inside, three_parts

HEAVY = (
    *("numpy.testing", "cv2", "sklearn", "skimage", "scipy", "pandas", "pyarrow", "matplotlib", "jinja2"),
    *("torch", "keras", "onnx", "onnxruntime", "openvino", "sqlite3"),
)


@pytest.mark.parametrize(
    "args",
    [["--help"], ["predict", "--help"], ["train", "-h"], ["recipes"], ["data", "--help"], ["evaluate", "--help"]],
)
def test_what_needs_no_work_imports_nothing_heavy(args) -> None:
    code = (
        "import sys\nfrom cervicyte.cli import main as cli\n"
        f"sys.argv = ['cervicyte', *{args!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("HEAVY []")


def test_predicting_a_file_imports_no_reader_of_data_sets(trained) -> None:
    """All of them take a tenth of the time in which a small model answers."""
    image = next(path for path in sorted(Path(trained.data).rglob("*")) if path.suffix in {".png", ".bmp", ".jpg"})
    code = (
        "import sys\nfrom cervicyte.cli import main as cli\n"
        f"sys.argv = ['cervicyte', 'predict', {str(image)!r}, '--model', {str(trained.bundle)!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('READERS', 'cervicyte.data.readers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("READERS False")


def test_help_names_every_command_and_every_exit_code() -> None:
    done = cervicyte("--help")
    assert done.returncode == 0
    for command in ("train", "evaluate", "predict", "recipes", "doctor", "demo", "data"):
        assert command in done.stdout
    for code in EXIT_CODES:
        assert f"{code}:" in done.stdout
    assert "not for diagnosis" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("args", "nearest"),
    [
        (("train", "DATA", "--out", "RUN", "--recipe", "morphology-rl"), "morphology-lr"),
        (("train", "DATA", "--out", "RUN", "--backbone", "resnet-50"), "ResNet50"),
        (("train", "DATA", "--out", "RUN", "--filters", "clahee"), "clahe"),
        (("train", "DATA", "--out", "RUN", "--protocol", "groupd"), "grouped"),
        (("train", "DATA", "--out", "RUN", "--reader", "foldr"), "folder"),
        (("train", "DATA", "--out", "RUN", "--map", "sipakmed-to-binary-publishd"), "sipakmed-to-binary-published"),
        (("train", "DATA", "--out", "RUN", "--target", "binry"), "binary"),
        (("train", "DATA", "--out", "RUN", "--fit", "padd"), "pad"),
        (("train", "DATA", "--out", "RUN", "--precision", "bfloat"), "bfloat16"),
        (("evaluate", "BUNDLE", "OTHER", "--out", "RUN", "--protocol", "randm"), "random"),
        (("predict", "DATA", "--model", "BUNDLE", "--precision", "float"), "float32"),
        (("predict", "DATA", "--model", "BUNDLE", "--out", "x.cvs"), ".csv"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(
    trained, demo_cells, tmp_path, monkeypatch, capsys, args, nearest
) -> None:
    places = {"DATA": trained.data, "OTHER": trained.data, "BUNDLE": trained.bundle, "RUN": tmp_path / "run"}
    code, _, said = inside(monkeypatch, capsys, *[places.get(a, a) for a in args])
    assert code == 2, said
    assert nearest in said
    assert "Traceback" not in said
    assert "cervicyte: " in said
    assert "received: " in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("predict", "x.png", "--modle", "b"), "--model"),
        (("train", "x"), "--out"),
        (("train",), "DATA"),
        (("trian", "x"), "train"),
        (("train", "x", "--out", "y", "--folds", "many"), "--folds"),
        (("train", "x", "--out", "y", "--seed", "1.5"), "--seed"),
    ],
)
def test_wrong_options_are_2_and_name_what_is_meant(monkeypatch, capsys, args, said) -> None:
    code, _, text = inside(monkeypatch, capsys, *args)
    assert code == 2
    assert said in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "options",
    [
        ("--folds", "0"),
        ("--folds", "1"),
        ("--seed", "-1"),
        ("--seed", "99999999999"),
        ("--size", "-5"),
        ("--size", "64"),
        ("--orientations", "4"),
        ("--orientations", "3"),
        ("--C", "-1"),
        ("--C", "nan"),
        ("--sensitivity", "2"),
        ("--sensitivity", "nan"),
        ("--backbone", "onnx:model.onnx"),
        ("--group-from", "("),
    ],
)
def test_values_that_cannot_be_used_are_2_before_any_work(trained, tmp_path, monkeypatch, capsys, options) -> None:
    code, _, said = inside(monkeypatch, capsys, "train", trained.data, "--out", tmp_path / "run", *options)
    assert code == 2, said
    assert three_parts(said) or "received: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CERVICYTE_THREADS", "two"),
        ("CERVICYTE_THREADS", "-1"),
        ("CERVICYTE_MAX_PIXELS", "0"),
        ("CERVICYTE_MAX_PIXELS", "1e6"),
        ("CERVICYTE_BATCH_SIZE", "0"),
        ("CERVICYTE_ENGINE", "tensorrt"),
        ("CERVICYTE_PRECISION", "int4"),
        ("CERVICYTE_PROGRESS", "maybe"),
    ],
)
def test_a_setting_that_cannot_be_used_is_2_and_named(trained, tmp_path, monkeypatch, capsys, variable, value) -> None:
    monkeypatch.setenv(variable, value)
    code, _, said = inside(monkeypatch, capsys, "train", trained.data, "--out", tmp_path / "run")
    assert code == 2
    assert variable in said
    assert value in said
    assert three_parts(said)
    assert not (tmp_path / "run").exists()


def test_settings_are_honoured(trained, demo_cells, tmp_path, monkeypatch, capsys) -> None:
    image = demo_cells.cells[0].path
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))
    assert inside(monkeypatch, capsys, "predict", image, "--model", trained.bundle)[0] == 0
    assert list((tmp_path / "cache" / "features").glob("*.sqlite"))
    monkeypatch.setenv("CERVICYTE_MAX_PIXELS", "1000")
    code, out, _ = inside(monkeypatch, capsys, "predict", image, "--model", trained.bundle, "--no-cache")
    assert code == 4
    assert "CERVICYTE_MAX_PIXELS" in out
    assert {row.variable for row in settings.SETTINGS} == {f"CERVICYTE_{row.name.upper()}" for row in settings.SETTINGS}


def test_a_cache_that_cannot_be_written_is_8_and_says_how_to_go_on(
    trained, demo_cells, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "file"))
    code, _, said = inside(monkeypatch, capsys, "predict", demo_cells.cells[0].path, "--model", trained.bundle)
    assert code == 8
    assert "CERVICYTE_CACHE_DIR" in said
    assert three_parts(said)


def test_every_default_is_a_value_that_can_be_used() -> None:
    for row in settings.SETTINGS:
        assert settings.get(row.name, {}) is not None
    with pytest.raises(UsageError):
        settings.get("engine", {"CERVICYTE_ENGINE": ""})


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("predict", "x.png", "--model", "nowhere"), 6),
        (("evaluate", "nowhere", "DATA", "--out", "RUN"), 6),
        (("train", "nowhere", "--out", "RUN"), 6),
        (("train", "DATA", "--out", "RUN", "--backbone", "ResNet50", "--weights", "nowhere"), 6),
        (("train", "DATA", "--out", "FILE/run"), 8),
        (("evaluate", "BUNDLE", "DATA", "--out", "RUN"), 5),
        (("predict", "gone.png", "--model", "BUNDLE", "--out", "RUN.csv"), 4),
    ],
)
def test_real_processes_end_with_the_code_of_what_happened(trained, tmp_path, args, code) -> None:
    (tmp_path / "file").write_text("x")
    places = {
        "DATA": trained.data,
        "BUNDLE": trained.bundle,
        "RUN": tmp_path / "run",
        "FILE/run": tmp_path / "file" / "run",
    }
    places["RUN.csv"] = tmp_path / "run.csv"
    done = cervicyte(*[places.get(a, a) for a in args], cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert three_parts(done.stderr) or code == 4


def test_lists_derive_from_the_registries(monkeypatch, capsys) -> None:
    from cervicyte.training.recipes import shipped

    code, out, _ = inside(monkeypatch, capsys, "recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(shipped())
    code, out, _ = inside(monkeypatch, capsys, "data", "list")
    assert code == 0
    for name in ("herlev", "sipakmed", "cric", "lbc"):
        assert name in out


def test_inspect_and_audit_tell_what_a_folder_holds_and_name_the_broken_file(
    demo_cells, tmp_path, monkeypatch, capsys
) -> None:
    data = tmp_path / "cells"
    shutil.copytree(Path(demo_cells.cells[0].path).parents[1], data)
    victim = sorted((data / "normal_columnar").glob("*.png"))[0]
    victim.write_bytes(b"")
    code, out, err = inside(monkeypatch, capsys, "data", "inspect", data, "--out", tmp_path / "inspected")
    assert code == 3, err
    assert any(line.split()[:2] == ["normal_columnar", "12"] for line in out.splitlines())
    assert f"unreadable: {victim}: the file is empty" in out
    assert (tmp_path / "inspected" / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = inside(monkeypatch, capsys, "data", "audit", data, "--out", tmp_path / "audited")
    assert code == 0, err
    assert any(line.startswith("warning") and "1 of 84 cells cannot be read" in line for line in out.splitlines())
    assert {p.name for p in (tmp_path / "audited").iterdir()} >= {"audit.html", "audit.json", "findings.csv"}


def test_the_python_api_is_a_few_names() -> None:
    import cervicyte as package

    assert {"load", "train", "evaluate", "Bundle"} <= set(package.__all__)
    assert callable(package.train)
    with pytest.raises(AttributeError, match="no attribute"):
        package.fit  # noqa: B018


def test_predict_counts_what_it_passes_over(demo_cells, tmp_path, monkeypatch, capsys) -> None:
    folder, empty = tmp_path / "slide", tmp_path / "empty"
    (folder / "@eaDir").mkdir(parents=True)
    empty.mkdir()
    for place in ("a.png", "b.jfif", "c.jpe", "@eaDir/a.png", "d.gif", "e.svs", "._a.png"):
        shutil.copy(demo_cells.paths[0], folder / place)
    code, out, err = inside(monkeypatch, capsys, "predict", folder)
    assert code == 0
    assert [line.split(",")[0].rsplit("/", 1)[1] for line in out.splitlines()[1:]] == ["a.png", "b.jfif", "c.jpe"]
    assert "3 files not named as an image (hidden .png 1, .gif 1, .svs 1)" in err
    assert "1 image in hidden folders or folders that systems make (@eaDir 1)" in err
    assert "\n3 images: " in err
    code, _, err = inside(monkeypatch, capsys, "predict", empty, folder / "a.png")
    assert code == 3
    assert "1 image: " in err
    assert "0 not predicted; 1 folder without images" in err
