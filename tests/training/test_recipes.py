"""Recipes: shipped ones load, a user's own are checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cervicyte.errors import UsageError
from cervicyte.images.decoding import FITS
from cervicyte.training.parts import METHODS, Finetune, Linear
from cervicyte.training.recipes import Recipe, load_recipe, parse_recipe, shipped, stored_recipe
from support.commands import inside, read, three_parts
from support.paths import TESTS


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_loads_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")


def test_a_users_file_is_read_and_options_replace_its_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('backbone = "MobileNetV2"\nfilters = ["clahe"]\nC = 1\n')
    recipe = load_recipe(path)
    (part,) = recipe.members
    assert isinstance(part, Linear)
    assert (recipe.name, part.name, part.backbone, part.filters, part.C) == (
        "mine", "mine", "MobileNetV2", ("clahe:tile=32",), 1,
    )  # fmt: skip
    (changed,) = recipe.changed(C=0.5, size=None).members
    assert (changed.C, changed.size) == (0.5, 0)


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
    assert parse_recipe("x", {"filters": ["clahe"]}).to_json()["filters"] == ["clahe"]
    for name in shipped():
        recipe = load_recipe(name)
        assert stored_recipe(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("path", sorted((TESTS / "artefacts" / "recipes").glob("*.json")), ids=lambda path: path.stem)
def test_a_recipe_that_an_earlier_build_stored_is_the_one_that_ships(path: Path) -> None:
    assert load_recipe(path) == load_recipe(path.stem)


def test_the_recipe_of_an_earlier_run_and_of_its_bundle_is_read() -> None:
    run = TESTS / "artefacts" / "format-2-ensemble"
    recipe = load_recipe(run / "recipe.json")
    assert [member.name for member in recipe.members] == ["measured", "tiny"]
    assert stored_recipe(read(run / "bundle" / "manifest.json")["training"]["recipe"]) == recipe


@pytest.mark.parametrize("text", ["{", "5", "[]", "{}", '{"name": 3}'])
def test_a_file_that_is_no_stored_recipe_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(UsageError, match=r"not a stored recipe|not valid JSON"):
        load_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[[members]]\n[[members]]\nsize = 'x'", "members[1].size"),
        ("[[members]]\n[[members]]\nsize = 5000", "members[1].size"),
        ("[[members]]\n[[members]]\nfilters = ['median', 3]", "members[1].filters[1]"),
        ("[[members]]\n[[members]]\nsiz = 3", "at members[1]"),
        ("[[members]]\n[[members]]\nfit = 'squash'", "at members[1]"),
        ("[[members]]\n[[members]]\nmethod = 'guess'", "members[1].method"),
        ("[[members]]\n[[members]]\nstand_in = {size = 5000}", "members[1].stand_in.size"),
        ("[[members]]\n[[members]]\nepochs = 3", "at members[1]"),
        ("C = nan", "C must lie between"),
        ("size = -1", "recipe: size must"),
    ],
)
def test_an_error_names_the_place_of_the_key(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        load_recipe(path)
    assert place in str(raised.value)
    assert raised.value.received


def test_records_that_no_file_made_are_checked_too() -> None:
    for wrong in ({"size": 5000}, {"C": float("nan")}, {"fit": "squash"}, {"filters": ("blurr",)}, {"orientations": 3}):
        with pytest.raises(UsageError):
            Linear(name="x", **wrong)
    with pytest.raises(UsageError, match="augmentation"):
        Finetune(name="x", augmentation="magic")
    assert all(Linear(name="x", fit=fit).fit == fit for fit in FITS)
    assert list(METHODS) == ["linear", "finetune", "distil"]


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
    (part,) = load_recipe(path).members
    assert (part.size, part.seed) == (48, 2)
    with pytest.raises(UsageError, match="does not read C"):  # an option of the command line
        load_recipe("resnet50-finetune").changed(C=1.0)


def test_a_stand_in_of_another_method_takes_over_what_that_method_reads(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(
        f"[[members]]\n[[members]]\n{TUNED}orientations = 4\nepochs = 3\n"
        "stand_in = { backbone = 'MobileNetV2', method = 'linear', C = 0.5 }\n"
    )
    stand_in = load_recipe(path).members[1].stand_in
    assert stand_in == Linear(name="MobileNetV2", backbone="MobileNetV2", orientations=4, C=0.5)


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
    first, second = recipe.members
    assert (recipe.rule, recipe.sensitivity, recipe.target) == ("weighted", 0.9, "native")
    assert (first.name, first.backbone, first.orientations) == ("ResNet50 normalise clahe:tile=32", "ResNet50", 4)
    assert (second.name, second.backbone, second.C, second.stand_in) == ("measured", "morphology", 0.5, None)
    # A stand-in is made as its member is, but for what it says itself, and is named by what it is.
    assert first.stand_in == Linear(
        name="MobileNetV2 normalise clahe:tile=32 96 px",
        backbone="MobileNetV2",
        filters=("normalise", "clahe:tile=32"),
        orientations=4,
        size=96,
    )
    stored = recipe.to_json()
    assert stored["members"][0]["stand_in"]["size"] == 96
    assert stored["members"][1]["name"] == "measured"
    assert parse_recipe("one", {}).members == (Linear(name="one"),)


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


_TWO = Recipe(name="two", members=(Linear(name="a"), Linear(name="b", filters=("median",))))


def test_options_of_an_ensemble_change_what_is_its_own(tmp_path: Path) -> None:
    changed = _TWO.changed(target="binary", maps=("sipakmed-to-binary-clinical",), sensitivity=0.99, size=None)
    assert (changed.target, changed.sensitivity, changed.members) == ("binary", 0.99, _TWO.members)
    for option in ({"backbone": "morphology"}, {"filters": ("clahe",)}, {"filters": ()}, {"C": 0.0}, {"size": 0}):
        with pytest.raises(UsageError, match="belongs to its members") as raised:
            _TWO.changed(**option)
        assert raised.value.received == next(iter(option))
    with pytest.raises(UsageError, match="belongs to its members"):
        parse_recipe("two", {"members": [{"name": "a"}, {"name": "b"}], "C": 2.0})


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
