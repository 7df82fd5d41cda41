"""Recipes: shipped ones load, a user's own are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cervicyte.errors import UsageError
from cervicyte.recipes import Recipe, load_recipe, shipped


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_loads_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")


def test_a_users_file_is_read_and_options_replace_its_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('backbone = "MobileNetV2"\nfilters = ["clahe"]\nC = 1\n')
    recipe = load_recipe(path)
    assert (recipe.name, recipe.backbone, recipe.filters, recipe.C) == ("mine", "MobileNetV2", ("clahe",), 1)
    assert recipe.changed(C=0.5, size=None).C == 0.5
    assert recipe.changed(C=0.5, size=None).size == 0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("backbon = 'x'", "unknown key"),
        ("C = 'large'", "wrong kind"),
        ("C = true", "wrong kind"),
        ("size = 5000", "between"),
        ("sensitivity = 0.1", "between"),
        ("fit = 'squash'", "one of"),
        ("target = 'nine'", "one of"),
        ("filters = ['blurr']", "unknown filter"),
        ("maps = ['nowhere']", "unknown label map"),
        ("backbone = ", "not valid TOML"),
        ("name = 'other'", "unknown key"),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_is_wrong(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=what):
        load_recipe(path)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        load_recipe("sistem-b")
    assert "system-b" in str(raised.value)
    with pytest.raises(UsageError, match="cannot read"):
        load_recipe("nowhere.toml")


def test_a_recipe_goes_through_json() -> None:
    assert Recipe("x", filters=("clahe",)).to_json()["filters"] == ["clahe"]
