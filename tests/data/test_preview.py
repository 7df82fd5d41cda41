"""The preview of filters: a figure of every step, what each costs, and nothing passed over in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cervicyte.data.preview import MOST, preview
from cervicyte.errors import DataError, StorageError, UsageError
from cervicyte.images import filters
from support.commands import cervicyte, inside, three_parts
from support.generated_cells import make_cell, save


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    return [save(make_cell(i, 60), folder / f"cell_{i}.png") for i in range(3)]


def test_each_step_is_drawn_timed_and_measured(images, tmp_path) -> None:
    chain = filters.parse_chain("normalise,clahe:clip=3,median")
    made = preview(images, chain, tmp_path / "deep" / "p.png")
    with Image.open(made.path) as image:
        assert image.format == "PNG"
        assert image.width > image.height > 300
        assert np.asarray(image.convert("L")).std() > 20
    assert [row.name for row in made.rows] == ["cell_0.png", "cell_1.png", "cell_2.png"]
    for i, row in enumerate(made.rows):
        expected = [make_cell(i, 60)]
        for text in chain:
            expected.append(filters.apply_chain(expected[-1], (text,)))
        for shown, image in zip(row.images, expected, strict=True):
            np.testing.assert_array_equal(shown, image)
        assert row.size == (60, 60)
        assert row.before.shape == row.after.shape == (4, 64)
        np.testing.assert_allclose((row.before.sum(axis=1), row.after.sum(axis=1)), 1)
        reds = np.histogram(expected[0][..., 0], np.linspace(0, 256, 65))[0] / 3600
        np.testing.assert_allclose(row.before[1], reds)
        assert len(row.milliseconds) == 3
        assert min(row.milliseconds) > 0
    assert [text for text, _ in made.costs] == list(chain)
    assert (made.failed, made.left_out) == ({}, 0)


def test_a_parameter_without_effect_is_told(images, tmp_path) -> None:
    made = preview(images, ("normalise", "clahe:clip=3"), tmp_path / "p.png")
    (remark,) = made.remarks
    assert remark.startswith("clahe:clip=3, in 3 of 3 image(s), for example cell_0.png: clip=3 has no effect on tiles")
    told = cervicyte("data", "preview", images[0], "--filters", "clahe:tile=0", "--out", tmp_path / "q.png")
    assert "clip=2 has no effect" in told.stderr


def test_the_cost_is_that_of_computing_also_where_images_are_kept(images, tmp_path) -> None:
    costs = [preview(images[:1], ("nlm",), tmp_path / "p.png").costs[0][1] for _ in range(2)]
    assert min(costs) > 0.2 * max(costs)


def test_large_images_are_drawn_small_and_odd_ones_are_drawn(tmp_path) -> None:
    big = save(np.random.default_rng(0).integers(0, 256, (700, 1400, 3), dtype=np.uint8), tmp_path / "big.png")
    dot = save(np.zeros((1, 1, 3), np.uint8), tmp_path / "dot $x$ _ клетка.png")
    made = preview([big, dot], ("normalise", "reinhard"), tmp_path / "p.png")
    assert [row.images[0].shape for row in made.rows] == [(240, 480, 3), (1, 1, 3)]
    assert [row.size for row in made.rows] == [(1400, 700), (1, 1)]


def test_what_cannot_be_read_is_told_and_the_rest_drawn(images, tmp_path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    out = tmp_path / "p.png"
    done = cervicyte(
        *("data", "preview", tmp_path / "bad.png", *images, tmp_path / "gone.png"),
        *("--filters", "nlm:H=5,clahe", "--out", out),
    )
    assert done.returncode == 3
    assert "bad.png: not an image" in done.stderr
    assert "gone.png: no such file" in done.stderr
    assert out.is_file()
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["nlm:h=5:bgr=1", "clahe:tile=32"]
    assert all(line.endswith("ms per image") for line in done.stdout.splitlines())


def test_a_figure_holds_a_limited_number_and_says_what_it_leaves_out(tmp_path, monkeypatch, capsys) -> None:
    for i in range(MOST + 3):
        save(make_cell(i, 20), tmp_path / "cells" / f"{i:02d}.png")
    made = preview([tmp_path / "cells"], ("median",), tmp_path / "p.png")
    assert (len(made.rows), made.left_out) == (MOST, 3)
    code, _, err = inside(
        *(monkeypatch, capsys, "data", "preview", tmp_path / "cells", "--filters", "median"),
        *("--out", tmp_path / "p.png"),
    )
    assert code == 0
    assert f"3 more image(s) were left out; a figure holds {MOST}" in err


@pytest.mark.parametrize("chain", ["", "nlmm", "nlm:template=33", "median:size=4"])
def test_a_chain_that_cannot_be_used_writes_nothing(images, tmp_path, chain, monkeypatch, capsys) -> None:
    out = tmp_path / "p.png"
    code, _, err = inside(monkeypatch, capsys, "data", "preview", *images, "--filters", chain, "--out", out)
    assert code == 2
    assert three_parts(err)
    assert not out.exists()


def test_inputs_are_never_replaced_and_places_are_checked(images, tmp_path) -> None:
    before = Path(images[1]).read_bytes()
    with pytest.raises(UsageError, match="replace an input"):
        preview(images, ("median",), images[1])
    assert Path(images[1]).read_bytes() == before
    with pytest.raises(UsageError, match="PNG"):
        preview(images, ("median",), tmp_path / "p.jpg")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        preview(images, ("median",), tmp_path / "file" / "p.png")
    with pytest.raises(DataError, match="no image could be drawn"):
        preview([tmp_path / "gone.png"], ("median",), tmp_path / "p.png")
