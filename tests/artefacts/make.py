"""Make the artefacts of earlier builds in this folder: run it only to add one, never to bring a test to green.

    python tests/artefacts/make.py REPOSITORY

REPOSITORY is a clone of this one; each artefact is made by the source of the commit that `BUNDLES` names. It is made
again only where it is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent

#: The last build before modules were sorted into rooms; its answers are recorded beside every bundle.
LAST = "b4c2511"

#: Folder, the commit whose code wrote it, and its recipe.
BUNDLES = {
    "format-1-without-quality": ("33e2179", "morphology"),
    "format-1-without-card": ("ea73a62", "morphology"),
    "format-1-morphology": (LAST, "morphology"),
    "format-1-network": (LAST, "network"),
    "format-2-without-quality": ("888bd36", "ensemble"),
    "format-2-ensemble": (LAST, "ensemble"),
}

RECIPES = {
    "morphology": 'backbone = "morphology"\nC = 0.1\n',
    "network": 'backbone = "onnx:tiny.onnx"\npreprocess = "tf"\n'
    'filters = ["normalise", "median"]\nfit = "pad"\nC = 0.1\n',
    "ensemble": 'rule = "weighted"\n[[members]]\nname = "measured"\nbackbone = "morphology"\nC = 0.1\n'
    '[[members]]\nname = "tiny"\nbackbone = "onnx:tiny.onnx"\npreprocess = "tf"\nC = 0.1\n',
}

#: Writes every recipe that ships as a run stores it.
STORED = """
import json, pathlib, sys
from cervicyte.recipes import load_recipe, shipped
for name in shipped():
    text = json.dumps(load_recipe(name).to_json(), indent=1)
    pathlib.Path(sys.argv[1], f"{name}.json").write_text(text + chr(10), encoding="utf-8")
"""


def network(path: Path, side: int = 24) -> None:
    """Write a network of one convolution with fixed weights."""
    kernel = np.random.default_rng(0).normal(size=(12, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["conv"], strides=[3, 3]),
        helper.make_node("Relu", ["conv"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", 12, side // 3, side // 3])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def main(repository: Path) -> None:
    """Make what is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch)

        def source(commit: str) -> Path:
            folder = there / commit
            if not folder.exists():
                folder.mkdir()
                archive = subprocess.run(
                    ["git", "archive", commit, "src"], cwd=repository, check=True, stdout=subprocess.PIPE
                )
                subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            return folder / "src"

        def python(commit: str, *args: object) -> None:
            environment = os.environ | {
                "PYTHONPATH": str(source(commit)),
                "CERVICYTE_CACHE_DIR": str(there / f"cache-{commit}"),
                "CERVICYTE_PRECISION": "float32",
            }
            subprocess.run([sys.executable, *map(str, args)], cwd=there, env=environment, check=True)

        draw = "from cervicyte.datasets import demo as d; "
        draw += "d.generate('{}', n_per_class={}, seed={}, size=64, system='binary')"
        python(LAST, "-c", draw.format("cells", 13, 0))
        python(LAST, "-c", draw.format("new", 4, 1))
        network(there / "tiny.onnx")
        for name, recipe in RECIPES.items():
            (there / f"{name}.toml").write_text(recipe, encoding="utf-8")
        for name, (commit, recipe) in BUNDLES.items():
            target = HERE / name
            if target.exists():
                continue
            target.mkdir()
            train = ("-m", "cervicyte", "train", "cells", "--recipe", f"{recipe}.toml", "--folds", 3)
            python(commit, *train, "--groups", "cells/groups.csv", "--out", f"run-{name}")
            (there / f"run-{name}" / "bundle").rename(target / "bundle")
            python(LAST, "-m", "cervicyte", "predict", "new", "--model", target / "bundle", "--out", target / "new.csv")
            if name == "format-2-ensemble":
                for file in ("metrics.json", "folds.json", "recipe.json", "predictions.csv"):
                    (there / f"run-{name}" / file).rename(target / file)

        recipes = HERE / "recipes"
        if not recipes.exists():
            recipes.mkdir()
            python(LAST, "-c", STORED, recipes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
