"""Recipes: shipped ones load, a user's own are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cervicyte.errors import UsageError
from cervicyte.training.recipes import Part, Recipe, load_recipe, shipped
from support.commands import inside, three_parts


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


# ---- keys that would do nothing

DISTIL = 'method = "distil"\nbackbone = "cytonet"\nteacher = "ensemble"\n'
TUNED = 'method = "finetune"\nbackbone = "ResNet50"\n'


@pytest.mark.parametrize(
    ("text", "idle", "readers"),
    [
        (f"{TUNED}C = 0.5", "C", "linear"),
        (f"{TUNED}C = 0.0", "C", "linear"),  # its default too: somebody wrote it to some end
        (f"{TUNED}layer = 'conv4_block6_out'", "layer", "linear"),
        (f"{TUNED}preprocess = 'tf'", "preprocess", "linear"),
        ("epochs = 5", "epochs", "finetune and distil"),
        ("epochs = 10", "epochs", "finetune and distil"),
        ("variants = 3", "variants", "finetune"),
        ("learning_rate = 1e-3", "learning_rate", "finetune and distil"),
        ("augmentation = 'geometric'", "augmentation", "finetune"),
        ("seed = 1", "seed", "finetune and distil"),
        (f"{DISTIL}C = 0.5", "C", "linear"),
        (f"{DISTIL}orientations = 4", "orientations", "linear and finetune"),
        (f"{DISTIL}variants = 3", "variants", "finetune"),
        (f"{DISTIL}patience = 3", "patience", "finetune"),
        (f"{DISTIL}head_learning_rate = 1e-3", "head_learning_rate", "finetune"),
        (f"[[members]]\n[[members]]\n{TUNED}C = 0.5", "C", "linear"),
        ("[[members]]\n[[members]]\nfilters = ['median']\nstand_in = {variants = 2}", "variants", "finetune"),
    ],
)
def test_a_key_that_the_method_does_not_read_is_refused(tmp_path: Path, text: str, idle: str, readers: str) -> None:
    path = tmp_path / "idle.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"does not read {idle}\n") as caught:
        load_recipe(path)
    assert f"{idle} is read by {readers}" == caught.value.todo


def test_keys_that_a_method_reads_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "read.toml"
    path.write_text(f"{DISTIL}size = 48\nfit = 'pad'\nfilters = ['clahe']\nseed = 2\nepochs = 3\naveraging = 0.5")
    assert (load_recipe(path).size, load_recipe(path).seed) == (48, 2)
    with pytest.raises(UsageError, match="does not read C"):  # an option of the command line
        load_recipe("resnet50-finetune").changed(C=1.0)


def test_a_stand_in_of_another_method_takes_over_what_that_method_reads(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(
        f"[[members]]\n[[members]]\n{TUNED}orientations = 4\nepochs = 3\n"
        "stand_in = { backbone = 'MobileNetV2', method = 'linear', C = 0.5 }\n"
    )
    stand_in = load_recipe(path).members[1].stand_in
    assert stand_in == Part("MobileNetV2", backbone="MobileNetV2", orientations=4, C=0.5)


# ---- ensembles

ENSEMBLE = """
description = "Two ways to see a cell."
rule = "weighted"
sensitivity = 0.9

[[members]]
backbone = "ResNet50"
filters = ["normalise", "clahe"]
orientations = 4
stand_in = { backbone = "MobileNetV2", size = 96 }

[[members]]
name = "measured"
C = 0.5
"""


def test_members_are_read_named_and_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(ENSEMBLE)
    recipe = load_recipe(path)
    first, second = recipe.parts
    assert (recipe.rule, recipe.sensitivity, recipe.target) == ("weighted", 0.9, "native")
    assert (first.name, first.backbone, first.orientations) == ("ResNet50 normalise clahe", "ResNet50", 4)
    assert (second.name, second.backbone, second.C, second.stand_in) == ("measured", "morphology", 0.5, None)
    # A stand-in is made as its member is, but for what it says itself, and is named by what it is.
    assert first.stand_in == Part(
        "MobileNetV2 normalise clahe 96 px",
        backbone="MobileNetV2",
        filters=("normalise", "clahe"),
        orientations=4,
        size=96,
    )
    stored = recipe.to_json()
    assert stored["members"][0]["stand_in"]["size"] == 96
    assert stored["members"][1]["name"] == "measured"
    assert Recipe("one").parts == (Recipe("one"),)


def test_members_that_differ_in_seed_or_size_alone_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "seeds.toml"
    tuned = "[[members]]\nmethod = 'finetune'\nbackbone = 'ResNet50'\n"
    path.write_text("".join(f"{tuned}seed = {i}\n" for i in range(3)) + "[[members]]\nsize = 64\n")
    assert [m.name for m in load_recipe(path).members] == [
        "ResNet50",
        "ResNet50 seed 1",
        "ResNet50 seed 2",
        "morphology 64 px",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[members]]", "at least two members"),
        ("members = []", "without members"),
        ("members = ['ResNet50', 'MobileNetV2']", "members are tables"),
        ("members = 2", "members are tables"),
        ("[members]\nbackbone = 'ResNet50'", "members are tables"),
        ("rule = 'vote'", "without members"),
        ("[[members]]\n[[members]]", "a name of its own"),
        ("[[members]]\nname = 'a'\n[[members]]\nname = 'a'\nC = 1", "a name of its own"),
        ("[[members]]\nstand_in = {size = 64}\n[[members]]\nsize = 64", "a name of its own"),
        ("[[members]]\nstand_in = {name = 'morphology'}\n[[members]]\nsize = 64", "a name of its own"),
        ("filters = ['clahe']\n{two}", "belongs to its members"),
        ("backbone = 'morphology'\n{two}", "belongs to its members"),  # its default: would be ignored in silence
        ("C = 0\n{two}", "belongs to its members"),
        ("seed = 3\n{two}", "belongs to its members"),
        ("rule = 'median'\n{two}", "unknown rule"),
        ("rule = 1\n{two}", "wrong kind"),
        ("stand_in = {}\n{two}", "belongs to its members"),
        ("sensitivty = 0.9\n{two}", "did you mean 'sensitivity'"),
        ("{two}\nrule = 'vote'", "unknown key in the recipe"),
        ("{two}\nmembers = []", "unknown key in the recipe"),
        ("{two}\ntarget = 'binary'", "unknown key in the recipe"),
        ("{two}\nbackbon = 'x'", "did you mean 'backbone'"),
        ("{two}\nsize = -1", "between"),
        ("{two}\nname = 5", "wrong kind"),
        ("{two}\nstand_in = 'MobileNetV2'", "stand_in is a table"),
        ("{two}\nstand_in = ['MobileNetV2']", "stand_in is a table"),
        ("{two}\nstand_in = {backbon = 'x'}", "unknown key"),
        ("{two}\nstand_in = {stand_in = {}}", "unknown key"),
        ("{two}\nstand_in = {size = 5000}", "between"),
        ("{two}\nmethod = 'finetune'\nlayer = 'top'", "does not read layer"),
        ("published_test = 0.9\n{two}", "between"),
        ("copies_by = 'magic'\n{two}", "augmentation"),
    ],
)
def test_a_wrong_ensemble_is_refused_with_what_is_wrong(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace("{two}", "[[members]]\nname = 'a'\n[[members]]\nfilters = ['median']"))
    with pytest.raises(UsageError, match=what):
        load_recipe(path)


_TWO = Recipe("two", members=(Part("a"), Part("b", filters=("median",))))


def test_options_of_an_ensemble_change_what_is_its_own(tmp_path: Path) -> None:
    changed = _TWO.changed(target="binary", maps=("sipakmed-to-binary-clinical",), sensitivity=0.99, size=None)
    assert (changed.target, changed.sensitivity, changed.members) == ("binary", 0.99, _TWO.members)
    for option in ({"backbone": "morphology"}, {"filters": ("clahe",)}, {"filters": ()}, {"C": 0.0}, {"size": 0}):
        with pytest.raises(UsageError, match="belongs to its members") as raised:
            _TWO.changed(**option)
        assert raised.value.received == next(iter(option))
    with pytest.raises(UsageError, match="belongs to its members"):
        Recipe("two", members=_TWO.members, C=2.0)


@pytest.mark.parametrize(
    "option",
    [
        ("--backbone", "ResNet50"),
        ("--backbone", "morphology"),
        ("--filters", "clahe"),
        ("--orientations", "1"),
        ("--size", "64"),
        ("--fit", "stretch"),
        ("--C", "0"),
        ("--preprocess", "tf"),
    ],
)
def test_the_command_line_does_not_change_members_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    path = tmp_path / "two.toml"
    path.write_text(ENSEMBLE)
    args = ("train", tmp_path / "nowhere", "--recipe", path, "--out", tmp_path / "run", *option)
    code, _, said = inside(monkeypatch, capsys, *args)
    assert code == 2
    assert three_parts(said)
    assert option[0].lstrip("-") in said
    assert "[[members]]" in said
    assert not (tmp_path / "run").exists()
