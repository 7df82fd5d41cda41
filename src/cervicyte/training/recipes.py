"""Recipes: how a model is made, as small TOML files that are listed, read, checked and stored with the run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cervicyte.data.labels import get_map
from cervicyte.decision.ensemble import get_rule
from cervicyte.errors import UsageError, did_you_mean
from cervicyte.images.augmentation import get_augmentation
from cervicyte.images.filters import parse_chain
from cervicyte.training.parts import (
    READ_BY,
    Part,
    check_one_of,
    read_member,
    read_part,
)
from cervicyte.training.validation import check_bounds, check_keys, read_record

#: What says how one member is made: keys of the recipe itself where it is its own single member.
_OF_PARTS = tuple(key for key in READ_BY if key not in ("name", "stand_in"))


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to make a model of one member, or of an ensemble of several.

    Attributes
    ----------
    name : of the recipe
    members : one, or those of an ensemble
    description : one sentence
    target : "native" (the data set's own classes), "bethesda" or "binary"
    maps : label maps to prefer where the data set has several to the target
    sensitivity : the operating point is set for this sensitivity for abnormal cells
    max_risk : share of errors among the answered cells that the uncertain band is set for
    inner_folds : divisions of a training set: each held-out part stops one training early and calibrates
    rule : how an ensemble's members are combined, one of `cervicyte.decision.ensemble.RULES`
    copies : augmented copies of each cell under the as-published protocol
    copies_by : the augmentation that makes them
    published_test, published_validation : under the as-published protocol, shares of one random split; 0 for folds

    Raises
    ------
    UsageError : a value that cannot be used
    """

    name: str
    members: tuple[Part, ...]
    description: str = ""
    target: str = "native"
    maps: tuple[str, ...] = ()
    sensitivity: Annotated[float, Meta(ge=0.5, le=1.0)] = 0.95
    max_risk: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.05
    inner_folds: Annotated[int, Meta(ge=2, le=20)] = 5
    rule: str = "mean"
    copies: Annotated[int, Meta(ge=1, le=100)] = 10
    copies_by: str = "geometric"
    published_test: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.0
    published_validation: Annotated[float, Meta(ge=0.0, le=0.3)] = 0.0

    def __post_init__(self) -> None:
        check_one_of("target", self.target, ("native", "bethesda", "binary"))
        check_bounds(self)
        get_augmentation(self.copies_by)
        get_rule(self.rule)
        for name in self.maps:
            get_map(name)
        names = [part.name for member in self.members for part in (member, member.stand_in) if part]
        if not self.members or len(set(names)) < len(names):
            raise UsageError(
                "recipe: a recipe needs a member, and each member and stand-in a name of its own",
                ", ".join(names),
                "add a member, or write name = ... for those that share one",
            )

    def changed(self, **options: Any) -> Recipe:
        """Replace values by the options that are not None; those of a part belong to a single member.

        Raises
        ------
        UsageError : a value that cannot be used, or for an ensemble one that belongs to its members
        """
        chosen = {key: value for key, value in options.items() if value is not None}
        return parse_recipe(self.name, {**_table(self), **_written_now(chosen)})

    def to_json(self) -> dict[str, Any]:
        """Give a plain form, which is stored with the run; `stored_recipe` reads it back."""
        plain: dict[str, Any] = json.loads(msgspec.json.encode({"name": self.name, **_table(self)}))
        return plain


#: Keys of a recipe beside those of its parts.
_OWN = tuple(key for key in Recipe.__struct_fields__ if key not in ("name", "members"))


def _table(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a file has it, without its name."""
    own = {key: getattr(recipe, key) for key in _OWN}
    rows = [_row(member) for member in recipe.members]
    if len(rows) > 1:
        return {**own, "members": rows}
    del own["rule"], rows[0]["name"]
    return {**own, **rows[0]}


def _row(part: Part) -> dict[str, Any]:
    """A part as a file has it: its method, its keys, and its stand-in where it has one."""
    row: dict[str, Any] = msgspec.to_builtins(part)
    del row["stand_in"]
    return row if part.stand_in is None else {**row, "stand_in": _row(part.stand_in)}


def parse_recipe(name: str, table: Mapping[str, Any]) -> Recipe:
    """Read a recipe from the table of a file.

    Raises
    ------
    UsageError : an unknown key, a key that the part's method does not read, or a value that cannot be used
    """
    own = {key: value for key, value in table.items() if key not in _OF_PARTS and key != "members"}
    flat = {key: value for key, value in table.items() if key in _OF_PARTS}
    rows = table.get("members", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError("recipe: members are tables", repr(rows)[:100], "write each under [[members]]")
    if rows:
        _only_members_have(key for key in table if key in (*_OF_PARTS, "stand_in"))
        check_keys(own, _OWN)
        if len(rows) == 1:
            raise UsageError(
                "recipe: an ensemble needs at least two members", "one", "add a member, or write its keys without it"
            )
        members = tuple(read_member(row, f"members[{i}]") for i, row in enumerate(rows))
    else:
        if "members" in table or "rule" in table:
            raise UsageError("recipe: an ensemble without members", ", ".join(table), "write each under [[members]]")
        check_keys(own, (*_OWN, *_OF_PARTS))
        members = (read_part({"name": name, **flat}),)
    return read_record(Recipe, {"name": name, "members": members, **own})


def stored_recipe(value: Mapping[str, Any]) -> Recipe:
    """Read the plain form of a recipe, from recipe.json or a manifest, of this build or an earlier one.

    Earlier builds stored every key of every method; those that the method does not read are left out.

    Raises
    ------
    UsageError : not of that form
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UsageError("not a stored recipe", repr(value)[:100], "give the recipe.json of a run")
    table = {key: item for key, item in value.items() if key != "name"}
    if table.get("members"):
        rows = [_only_read(row) for row in table["members"]]
        return parse_recipe(value["name"], {**{k: v for k, v in table.items() if k in _OWN}, "members": rows})
    return parse_recipe(value["name"], {k: v for k, v in _only_read(table).items() if k not in ("rule", "members")})


def _only_read(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored part without the keys that its method does not read, nor a stand-in that it does not have."""
    method = row.get("method", "linear")
    read = {k: v for k, v in row.items() if (method in READ_BY.get(k, (method,))) and not (k == "stand_in" and not v)}
    return {**read, "stand_in": _only_read(read["stand_in"])} if "stand_in" in read else read


def _written_now(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a recipe that somebody writes now: its filter chains with the parameters that came later."""
    written = dict(table)
    for key, value in table.items():
        if key == "filters" and isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
            written[key] = list(parse_chain(",".join(value)))
        elif key == "stand_in" and isinstance(value, dict):
            written[key] = _written_now(value)
        elif key == "members" and isinstance(value, list):
            written[key] = [_written_now(row) if isinstance(row, dict) else row for row in value]
    return written


def _only_members_have(keys: Iterable[str]) -> None:
    """Refuse what says how one member is made where it stands beside members: it would do nothing."""
    astray = list(keys)
    if astray:
        raise UsageError(
            "recipe: in an ensemble this belongs to its members",
            ", ".join(astray),
            "write it under [[members]], in a recipe file of your own",
        )


def shipped() -> tuple[str, ...]:
    """Names of the recipes that ship, sorted."""
    folder = resources.files("cervicyte.training") / "recipe_files"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe that ships, by name, a TOML file of the user's, or the recipe.json of a run.

    Raises
    ------
    UsageError : no such recipe, not TOML, an unknown key, or a value that cannot be used

    >>> load_recipe("morphology-lr").members[0].backbone
    'morphology'
    """
    text_name = str(name)
    if text_name.endswith((".toml", ".json")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("cannot read the recipe", text_name, str(error)) from error
        stem = Path(name).stem
    elif text_name in shipped():
        text = (resources.files("cervicyte.training") / "recipe_files" / f"{text_name}.toml").read_text(
            encoding="utf-8"
        )
        stem = text_name
    else:
        hint = did_you_mean(text_name, shipped())
        raise UsageError("unknown recipe", repr(text_name), f"{hint}there are: {', '.join(shipped())}, or FILE.toml")
    try:
        if text_name.endswith(".json"):
            return stored_recipe(json.loads(text))
        table = tomllib.loads(text)  # those that ship say what stored recipes say, so that they stay the same
        return parse_recipe(stem, _written_now(table) if text_name.endswith(".toml") else table)
    except tomllib.TOMLDecodeError as error:
        raise UsageError("the recipe is not valid TOML", text_name, str(error)) from error
    except json.JSONDecodeError as error:
        raise UsageError("the recipe is not valid JSON", text_name, str(error)) from error
