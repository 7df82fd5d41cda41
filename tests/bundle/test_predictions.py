"""Predicting: every input has its row, bad files stop nothing, and a file appears only when it is whole."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from cervicyte.base import files
from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import Prediction, write_predictions, write_rows
from cervicyte.errors import StorageError, UsageError
from support.commands import cervicyte, inside, listen_to_interrupts, three_parts


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(side: int = 60_000) -> bytes:
    """A black 60,000 x 60,000 PNG: eleven gigabytes of pixels in a file of a few kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 + 3 * 60_000) * 8, 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def odd_files(demo_cells, tmp_path_factory) -> dict[str, Path]:
    """One folder of everything that people have: what can be read honestly, and what cannot."""
    folder = tmp_path_factory.mktemp("odd")
    good = Image.open(demo_cells.cells[5].path).convert("RGB")
    pixels = np.asarray(good)
    made: dict[str, Path] = {}

    def put(name: str, file_name: str, **options) -> None:
        image = options.pop("image", good)
        made[name] = folder / file_name
        image.save(made[name], **options)

    put("plain", "a plain.png")
    put("newline", "b new\nline.png")
    put("not latin", "c细胞é.png")
    put("comma", 'd "quoted", comma.png')
    put("grey", "e grey.png", image=good.convert("L"))
    put("deep", "f 16-bit.png", image=Image.fromarray(np.asarray(good.convert("L")).astype(np.uint16) * 257))
    put("rgba", "g rgba.png", image=good.convert("RGBA"))
    put("cmyk", "h cmyk.jpg", image=good.convert("CMYK"))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))  # stored on its side, upright by its EXIF
    put("exif", "i exif.png", image=turned, exif=exif)
    put("tiny", "j tiny.png", image=good.resize((1, 1)))
    made["not utf-8"] = folder / os.fsdecode(b"k \xe9\xff.png")
    shutil.copy(made["plain"], made["not utf-8"])
    made["carriage return"] = folder / "l \r.png"
    shutil.copy(made["plain"], made["carriage return"])

    put("animated", "m animated.webp", save_all=True, append_images=[good.transpose(Image.Transpose.ROTATE_90)])
    data = made["plain"].read_bytes()
    for name, file_name, content in (
        ("empty", "n empty.png", b""),
        ("truncated", "o truncated.png", data[: len(data) // 2]),
        ("text", "p text.png", b"ceci n'est pas une image\n"),
        ("bomb", "q bomb.png", _bomb()),
        ("bad name", os.fsdecode(b"r \xff broken.png"), b"nothing"),
    ):
        made[name] = folder / file_name
        made[name].write_bytes(content)
    made["pipe"] = folder / "s pipe.png"
    os.mkfifo(made["pipe"])
    made["loop"] = folder / "t loop"
    made["loop"].symlink_to(folder, target_is_directory=True)
    made["dangling"] = folder / "u dangling.png"
    made["dangling"].symlink_to(folder / "nowhere.png")
    made["folder"] = folder
    return made


BAD = {
    "animated": "2 frames",
    "empty": "0 bytes",
    "truncated": "damaged or truncated",
    "text": "not an image",
    "bomb": "more than 50,000,000 pixels",
    "bad name": "not an image",
    "pipe": "not a file",
    "loop": "leads back",
    "dangling": "No such file",
}


def test_a_folder_of_everything_has_a_row_for_each_and_ends_with_3(trained, odd_files, tmp_path) -> None:
    out = tmp_path / "out.csv"
    done = cervicyte("predict", odd_files["folder"], "--model", trained.bundle, "--out", out)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    with out.open(encoding="utf-8", newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    expected = {files.printable(path): name for name, path in odd_files.items() if name != "folder"}
    assert set(rows) == set(expected)
    for path, name in expected.items():
        row = rows[path]
        if name in BAD:
            assert BAD[name] in row["error"], (name, row)
            assert row["label"] == row["p_abnormal"] == row["uncertain"] == ""
        else:
            assert (name, row["error"]) == (name, "") or name == "tiny"
    plain = rows[files.printable(odd_files["plain"])]
    for name in ("newline", "not latin", "comma", "rgba", "exif", "not utf-8", "carriage return"):
        same = rows[files.printable(odd_files[name])]
        assert {**same, "path": ""} == {**plain, "path": ""}, name
    assert f"{len(BAD)} not predicted" in done.stderr


def test_inputs_stand_in_their_order_and_as_often_as_they_are_named(trained, odd_files, tmp_path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("2.png", "10.PNG", "er/1.png", "er/notes.txt", "er/.hidden.png"):
        shutil.copy(odd_files["plain"], tmp_path / "deep" / name)
    (tmp_path / "nothing").mkdir()
    plain, empty = str(odd_files["plain"]), str(odd_files["empty"])
    inputs = [plain, empty, str(tmp_path / "deep"), plain, str(tmp_path / "de*" / "*.png"), str(tmp_path / "nothing")]
    inputs += [str(tmp_path / "gone.png"), str(tmp_path / "*.bmp"), plain]
    found = Bundle.load(trained.bundle).predict(inputs)
    named = [Path(p).name for p in found["path"]]
    assert named == [
        "a plain.png",
        "n empty.png",
        "10.PNG",
        "2.png",
        "1.png",
        "a plain.png",
        "2.png",
        "nothing",
        "gone.png",
        "*.bmp",
        "a plain.png",
    ]
    assert found["error"].ne("").tolist() == [False, True, False, False, False, False, False, True, True, True, False]
    assert found[found["error"].eq("")]["p_abnormal"].nunique() == 1


def test_csv_json_and_parquet_agree_and_csv_goes_to_the_screen(trained, odd_files, tmp_path) -> None:
    import pandas as pd

    names = ("plain", "empty", "not utf-8", "bad name", "grey")
    inputs = [odd_files[name] for name in names]
    bundle = Bundle.load(trained.bundle)
    for ending in ("csv", "json", "parquet"):
        seen = list(write_predictions(bundle.stream(inputs), bundle.classes, tmp_path / f"out.{ending}"))
        assert len(seen) == len(names)
    screen = cervicyte("predict", *inputs, "--model", trained.bundle)
    assert screen.returncode == 3
    assert screen.stdout == (tmp_path / "out.csv").read_text(encoding="utf-8")
    written = _rows(screen.stdout)
    as_json = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    parquet = pd.read_parquet(tmp_path / "out.parquet")
    assert list(written[0]) == list(as_json[0]) == list(parquet.columns)
    assert list(parquet.columns)[:2] == ["path", "label"]
    for text, value, row in zip(written, as_json, parquet.to_dict("records"), strict=True):
        assert text["path"] == value["path"] == row["path"]
        assert text["error"] == value["error"] == row["error"]
        for name in [c for c in parquet.columns if c.startswith("p_")]:
            if value[name] is None:
                assert text[name] == ""
                assert pd.isna(row[name])
            else:
                assert value[name] == row[name] == pytest.approx(float(text[name]), abs=1e-6)
        assert text["uncertain"] == {None: "", True: "true", False: "false"}[value["uncertain"]]


def test_names_of_files_are_utf8_whatever_the_locale_says(trained, odd_files) -> None:
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = cervicyte("predict", odd_files["not latin"], "--model", trained.bundle, env=env)
    assert done.returncode == 0, done.stderr
    assert "c细胞é.png" in done.stdout


def test_nothing_to_predict_is_4(trained, odd_files, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "empty").mkdir()
    code, out, _ = inside(monkeypatch, capsys, "predict", tmp_path / "empty", "--model", trained.bundle)
    assert code == 4
    assert "no images in the folder" in _rows(out)[0]["error"]
    code, out, _ = inside(monkeypatch, capsys, "predict", odd_files["empty"], "--model", trained.bundle)
    assert code == 4
    assert len(_rows(out)) == 1


def test_a_file_that_may_not_be_read_is_one_row(trained, odd_files, tmp_path) -> None:
    for name in ("open.png", "shut.png"):
        shutil.copy(odd_files["plain"], tmp_path / name)
    (tmp_path / "shut").mkdir()
    shutil.copy(odd_files["plain"], tmp_path / "shut" / "inside.png")
    (tmp_path / "shut.png").chmod(0)
    (tmp_path / "shut").chmod(0)
    inputs = [str(tmp_path / n) for n in ("open.png", "shut.png", "shut", "shut/inside.png")]
    code = (
        "import os, sys, json\n"
        "from cervicyte import Bundle\n"
        "bundle = Bundle.load(sys.argv[2])\n"
        "inputs = json.loads(sys.argv[1])\n"
        "assert not bundle.predict(inputs[:1], cache=False)['error'].any()\n"  # all that is needed is imported now
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps([p.error for p in bundle.stream(inputs, cache=False)]))\n"
    )
    bundle_copy = shutil.copytree(trained.bundle, tmp_path / "bundle")
    place = tmp_path
    while os.getuid() == 0 and place != place.parent and "pytest" in str(place):  # the nobody must reach the folder
        place.chmod(0o755)
        place = place.parent
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(inputs), bundle_copy], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)
    finally:
        (tmp_path / "shut").chmod(0o755)
    assert rows[0] == ""
    assert len(rows) == 4
    for row in rows[1:]:
        assert "ermission denied" in row or "not permitted" in row, row


def test_uncertain_cells_are_never_called_normal(trained, demo_cells) -> None:
    bundle = Bundle.load(trained.bundle)
    found = bundle.predict(demo_cells.paths)
    m = bundle.manifest
    unsure = found["uncertain"].to_numpy(bool)
    assert 0 < unsure.sum() < len(found)
    assert (found["label"].eq("uncertain").to_numpy() == unsure).all()
    normal = ~found["label"].isin([*m.system.abnormal, "uncertain"]).to_numpy()
    assert (found["p_abnormal"].to_numpy()[normal] < m.limits.normal_below).all()
    assert not found["above_operating_point"].to_numpy(bool)[normal].any()
    flagged = found["above_operating_point"].to_numpy(bool)
    assert (flagged == (found["p_abnormal"].to_numpy() >= m.limits.threshold)).all()
    assert found.loc[flagged & ~unsure, "label"].isin(m.system.abnormal).all()


@given(p=st.lists(st.floats(0, 1), min_size=7, max_size=7).filter(lambda p: sum(p) > 0.01))
def test_no_probabilities_can_make_an_uncertain_or_flagged_cell_normal(trained, p) -> None:
    bundle = Bundle.load(trained.bundle)
    m = bundle.manifest
    verdict = bundle.verdict("x", np.array(p) / sum(p))
    if verdict.uncertain:
        assert verdict.label == "uncertain"
    elif verdict.above_operating_point:
        assert verdict.label in m.system.abnormal
    else:
        assert verdict.p_abnormal < m.limits.threshold
        assert verdict.label not in m.system.abnormal


# Writers


_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)


@given(path=_TEXT, error=_TEXT)
def test_any_path_and_any_message_survive_the_way_through_csv(path, error) -> None:
    stream = io.StringIO(newline="")
    list(
        write_rows(
            [Prediction(path, error=error), Prediction("b", "x", (0.25, 0.75), 0.75, True, False)], ("n", "x"), stream
        )
    )
    text = stream.getvalue()
    text.encode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [r["path"] for r in rows] == [files.printable(path), "b"]
    assert rows[0]["error"] == files.printable(error)
    assert rows[1] == {
        "path": "b",
        "label": "x",
        "bethesda": "",
        "p_n": "0.250000",
        "p_x": "0.750000",
        "p_abnormal": "0.750000",
        "above_operating_point": "true",
        "uncertain": "false",
        "quality": "",
        "error": "",
    }


def test_a_class_named_abnormal_keeps_its_own_column() -> None:
    row = Prediction("a", "abnormal", (0.2, 0.3, 0.5), 0.8).row(("healthy", "abnormal", "ill"))
    assert (row["p_class_abnormal"], row["p_abnormal"]) == (0.3, 0.8)
    assert len(row) == 11
    assert Prediction("a", "abnormal", (0.2, 0.8), 0.8).row(("normal", "abnormal"))["p_abnormal"] == 0.8
    undefined = Prediction("a", "abnormal", (0.2, 0.8)).row(("benign", "abnormal"))
    assert (undefined["p_class_abnormal"], undefined["p_abnormal"]) == (0.8, None)


@pytest.mark.parametrize("name", ["out.xls", "out", "out.csv.gz"])
def test_another_ending_is_refused_before_any_work(tmp_path, name) -> None:
    def never():
        raise AssertionError("predicted first")
        yield

    with pytest.raises(UsageError, match="output format"):
        write_predictions(never(), ("a", "b"), tmp_path / name)


def test_a_place_that_cannot_be_written_is_told_first_and_keeps_what_is_there(
    tmp_path, trained, monkeypatch, capsys
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "folder.csv", tmp_path / "file" / "out.csv", tmp_path / ("a" * 300 + ".csv")):
        code, _, said = inside(monkeypatch, capsys, "predict", trained.data, "--model", trained.bundle, "--out", place)
        assert code == 8, said
        assert three_parts(said)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_a_full_disk_leaves_the_old_output(tmp_path, monkeypatch, ending) -> None:
    out = tmp_path / f"out.{ending}"
    out.write_text("what was there before")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        list(write_predictions([Prediction("a", error="x")], ("a", "b"), out))
    assert out.read_text() == "what was there before"
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_an_error_or_a_halt_in_the_middle_leaves_the_old_output(tmp_path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")

    def broken():
        yield Prediction("a", error="x")
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        list(write_predictions(broken(), ("a", "b"), out))
    halted = write_predictions(iter([Prediction("a", error="x")] * 3), ("a", "b"), out)
    next(halted)
    halted.close()
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


# Real processes that are stopped in the middle


@pytest.fixture(scope="session")
def many(demo_cells, tmp_path_factory) -> Path:
    """1500 small pictures, 700 of them different."""
    folder = tmp_path_factory.mktemp("many")
    base = np.asarray(Image.open(demo_cells.cells[0].path).convert("RGB").resize((20, 20)))
    for i in range(1500):
        picture = base.copy()
        picture[0, 0] = (i % 700 % 256, i % 700 // 256, 7)
        Image.fromarray(picture).save(folder / f"{i:04d}.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def undisturbed(trained, many, tmp_path_factory) -> bytes:
    """What predicting the many gives when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    start = time.monotonic()
    env = {"CERVICYTE_CACHE_DIR": str(folder / "cache")}
    done = cervicyte("predict", many, "--model", trained.bundle, "--out", folder / "out.csv", env=env)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 240
    return (folder / "out.csv").read_bytes()


def _rows_in(cache: Path) -> int:
    import sqlite3

    found = 0
    for path in (cache / "features").glob("*.sqlite"):
        try:
            with sqlite3.connect(path) as connection:
                found += connection.execute("SELECT count(*) FROM features").fetchone()[0]
            connection.close()
        except sqlite3.OperationalError:
            pass
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_stopped_in_the_middle_no_output_is_there_and_the_repeat_is_the_same(
    trained, many, undisturbed, tmp_path, how
) -> None:
    out, cache = tmp_path / "place" / "out.csv", tmp_path / "cache"
    env = {**os.environ, "CERVICYTE_CACHE_DIR": str(cache)}
    args = ["predict", many, "--model", trained.bundle, "--out", out]
    command = [sys.executable, "-m", "cervicyte", *map(str, args)]
    with subprocess.Popen(
        command, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_interrupts
    ) as process:
        deadline = time.monotonic() + 120
        while _rows_in(cache) < 50 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be stopped"
        process.send_signal(how)
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said
    assert not out.exists()
    kept = _rows_in(cache)
    assert 50 <= kept < 700
    if how == signal.SIGINT:
        assert "interrupted" in said
        assert list(out.parent.iterdir()) == []
    again = cervicyte(*args, env={"CERVICYTE_CACHE_DIR": str(cache)})
    assert again.returncode == 0, again.stderr
    assert out.read_bytes() == undisturbed
    assert _rows_in(cache) == 700


def test_the_disk_fills_while_writing(trained, many, undisturbed, tmp_path) -> None:
    """A limit on the size of files stands for the full disk: the old output stays, and the exit code is 8."""
    out = tmp_path / "out.csv"
    out.write_text("what was there before")
    limit = 40_000
    assert len(undisturbed) > 2 * limit

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    args = ("predict", many, "--model", trained.bundle, "--out", out, "--no-cache")
    done = cervicyte(*args, preexec_fn=small_files)
    assert done.returncode == 8, done.stderr
    assert three_parts(done.stderr)
    assert out.read_text() == "what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_the_screen_may_go_away_or_be_full(trained, demo_cells) -> None:
    script = f'"{sys.executable}" -m cervicyte predict "$0" --model "$1" | head -1; echo ${{PIPESTATUS[@]}}'
    folder = Path(demo_cells.cells[0].path).parents[1]
    done = subprocess.run(["bash", "-c", script, folder, trained.bundle], capture_output=True, text=True)
    assert done.stdout.startswith("path,label,")
    assert done.stdout.splitlines()[-1] == "0 0"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    with open("/dev/full", "w") as full:
        done = cervicyte(
            "predict", folder, "--model", trained.bundle, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 8
    assert three_parts(done.stderr)
