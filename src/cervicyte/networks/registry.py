"""The registry of feature extractors: what each network needs, and where its weights come from.

Nothing heavy is imported with this module; `cervicyte.networks.keras.export` builds the networks.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cervicyte import settings
from cervicyte.base.files import sha256_file
from cervicyte.errors import MissingError, UsageError, did_you_mean

#: What a network wants of 8-bit RGB pixels, in the words of Keras Applications:
#: caffe: BGR minus the ImageNet mean; tf: x / 127.5 - 1; torch: x / 255, then ImageNet mean
#: and standard deviation; none: 0..255 as they are; 0-1: x / 255.
PREPROCESSING = ("caffe", "tf", "torch", "none", "0-1")

#: Prefix of the name of a user's own ONNX feature extractor.
ONNX_PREFIX = "onnx:"


@dataclass(frozen=True)
class Backbone:
    """One feature extractor.

    Attributes
    ----------
    name : as the user types it; for a user's own graph ``onnx:FILE``
    kind : "keras" (a network of Keras Applications), "onnx" (a user's graph), "shipped" (the network that
        comes with the package) or "morphology" (named measurements, no network)
    size : side of the square input in pixels; 0 where any size goes
    preprocessing : one of `PREPROCESSING`
    dimension : number of features; 0 where only the graph itself tells
    tail : names of the last two blocks (prefixes of layer names), in order
    keras_file : what Keras' own download calls the weights
    licence, citation : of the pretrained weights and the network's paper
    """

    name: str
    kind: str
    size: int
    preprocessing: str
    dimension: int
    tail: tuple[str, ...] = ()
    keras_file: str = ""
    licence: str = ""
    citation: str = ""

    @property
    def weights_file(self) -> str:
        """The name that is looked for in a folder of weights."""
        return f"{self.name.lower()}_imagenet_notop.weights.h5"

    @property
    def onnx_file(self) -> Path:
        """The user's graph, for the kind "onnx"."""
        return Path(self.name.removeprefix(ONNX_PREFIX)).expanduser()


_KERNELS = "weights_tf_dim_ordering_tf_kernels_notop.h5"
_CONV5 = ("conv5_block2", "conv5_block3")
_HE = "He et al. 2016, doi:10.1109/CVPR.2016.90"
_HE_V2 = "He et al. 2016, doi:10.1007/978-3-319-46493-0_38"
_HUANG = "Huang et al. 2017, doi:10.1109/CVPR.2017.243"
_SANDLER = "Sandler et al. 2018, doi:10.1109/CVPR.2018.00474"
_CHOLLET = "Chollet 2017, doi:10.1109/CVPR.2017.195"
_SZEGEDY = "Szegedy et al. 2017, doi:10.1609/aaai.v31i1.11231"
_RESNET_V2_TAIL = (*_CONV5, "post_bn")
_DENSENET121_TAIL = ("conv5_block15", "conv5_block16", "bn")
_DENSENET169_TAIL = ("conv5_block31", "conv5_block32", "bn")
# The shortcut around block 13, and the layers inside block8, have only the names that Keras
# counts up by itself: they belong to the tail because they hang on the same cut.
_XCEPTION_TAIL = ("block13", "block14")
_INCEPTION_TAIL = ("block8_9", "block8_10", "conv_7b")
_MOBILENET_TAIL = ("block_15", "block_16", "Conv_1")
_MOBILENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"

BACKBONES: tuple[Backbone, ...] = (
    Backbone("ResNet50", "keras", 224, "caffe", 2048, _CONV5, f"resnet50_{_KERNELS}", "MIT", _HE),
    Backbone("MobileNetV2", "keras", 224, "tf", 1280, _MOBILENET_TAIL, _MOBILENET_FILE, "Apache-2.0", _SANDLER),
    Backbone("ResNet50V2", "keras", 224, "tf", 2048, _RESNET_V2_TAIL, f"resnet50v2_{_KERNELS}", "MIT", _HE_V2),
    Backbone("ResNet101", "keras", 224, "caffe", 2048, _CONV5, f"resnet101_{_KERNELS}", "MIT", _HE),
    Backbone("ResNet152", "keras", 224, "caffe", 2048, _CONV5, f"resnet152_{_KERNELS}", "MIT", _HE),
    Backbone(
        "DenseNet121", "keras", 224, "torch", 1024, _DENSENET121_TAIL, f"densenet121_{_KERNELS}", "BSD-3-Clause", _HUANG
    ),
    Backbone(
        "DenseNet169", "keras", 224, "torch", 1664, _DENSENET169_TAIL, f"densenet169_{_KERNELS}", "BSD-3-Clause", _HUANG
    ),
    Backbone("Xception", "keras", 299, "tf", 2048, _XCEPTION_TAIL, f"xception_{_KERNELS}", "MIT", _CHOLLET),
    Backbone(
        "InceptionResNetV2",
        "keras",
        299,
        "tf",
        1536,
        _INCEPTION_TAIL,
        f"inception_resnet_v2_{_KERNELS}",
        "Apache-2.0",
        _SZEGEDY,
    ),
    Backbone("morphology", "morphology", 0, "none", 0),
    Backbone("cytonet", "shipped", 96, "none", 192, licence="Apache-2.0", citation="docs/model-card.md"),
)


@dataclass(frozen=True)
class Weights:
    """The weights of one network: a file, or numbers drawn at random from a seed."""

    path: Path | None
    sha256: str
    seed: int | None = None

    @property
    def random(self) -> bool:
        """True for weights that were never trained; whatever comes of them is marked so."""
        return self.path is None

    @property
    def description(self) -> str:
        """For manifests and reports."""
        return (
            f"{self.path.name} (SHA-256 {self.sha256[:12]})" if self.path else f"RANDOM, untrained (seed {self.seed})"
        )


def get_backbone(name: str, preprocessing: str | None = None, size: int | None = None) -> Backbone:
    """Return the row of that name, with another input size if one is given.

    ``onnx:FILE`` needs its preprocessing stated; its size too where the graph leaves it open.

    Raises
    ------
    UsageError : an unknown name (answered with the nearest right ones), a preprocessing that
        is not stated, unknown, or contradicts the registry, or a size that is not positive
    """
    if preprocessing is not None and preprocessing not in PREPROCESSING:
        raise UsageError("unknown preprocessing", repr(preprocessing), f"there are: {', '.join(PREPROCESSING)}")
    if size is not None and size < 1:
        raise UsageError("the input size must be a positive number of pixels", size)
    if name.startswith(ONNX_PREFIX):
        if preprocessing is None:
            raise UsageError(
                "an ONNX feature extractor needs its preprocessing stated",
                name,
                f"state one of: {', '.join(PREPROCESSING)}",
            )
        return Backbone(name, "onnx", size or 0, preprocessing, 0, licence="the user's own")
    by_lower = {row.name.lower(): row for row in BACKBONES}
    row = by_lower.get(name.lower())
    if row is None:
        hint = did_you_mean(name, [b.name for b in BACKBONES], cutoff=0.5)
        known = ", ".join(b.name for b in BACKBONES)
        raise UsageError("unknown backbone", repr(name), f"{hint}there are: {known}, {ONNX_PREFIX}FILE")
    if preprocessing not in (None, row.preprocessing):
        raise UsageError(
            f"{row.name} has its own preprocessing ({row.preprocessing})", preprocessing, "leave the preprocessing out"
        )
    return replace(row, size=size) if size and row.kind == "keras" else row


def find_weights(backbone: Backbone, weights: str | Path | None = None, *, seed: int = 0) -> Weights:
    """Find a network's pretrained weights.

    Looks at ``weights`` (a file, a folder, or the word ``random``), else at the setting
    CERVICYTE_WEIGHTS, else at Keras' own cache, which is filled by a download if need be.

    Raises
    ------
    MissingError : nowhere to be found; names the file and where to put it
    UsageError : the backbone has no weights of this kind
    """
    if backbone.kind != "keras":
        raise UsageError("this backbone takes no weights", backbone.name, "leave --weights out")
    if str(weights or settings.get_str("weights")) == "random":
        return Weights(None, f"random-{seed}", seed)
    path = weights_path(backbone, weights)
    if not path.is_file():
        _download(backbone, path)
    return Weights(path, sha256_file(path))


def weights_path(backbone: Backbone, weights: str | Path | None = None) -> Path:
    """Where `find_weights` looks for a file; one in Keras' own cache need not be there yet.

    Raises
    ------
    MissingError : the place that was named does not hold the weights
    """
    given = str(weights or settings.get_str("weights"))
    return _in_place(backbone, Path(given).expanduser()) if given else keras_cache() / backbone.keras_file


def has_weights(name: str, weights: str | Path | None = None) -> bool:
    """True where a network's weights are at hand without a download, or random ones were asked for."""
    if name.startswith(ONNX_PREFIX):
        return Path(name.removeprefix(ONNX_PREFIX)).expanduser().is_file()
    row = get_backbone(name)
    if row.kind != "keras" or str(weights or settings.get_str("weights")) == "random":
        return True
    try:
        return weights_path(row, weights).is_file()
    except MissingError:
        return False


def import_keras() -> Any:
    """Import Keras on the torch backend.

    Raises
    ------
    MissingError : the extra ``train`` is not installed
    UsageError : Keras is already running on another backend in this process
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"exporting or training a Keras network needs a package that is not installed ({error.name})",
            todo="pip install 'cervicyte[train]'",
        ) from error
    if keras.backend.backend() != "torch":
        raise UsageError("Keras runs on another backend in this process", keras.backend.backend(), "use torch")
    return keras


def keras_cache() -> Path:
    """The folder where Keras keeps the weights that it downloads."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def _in_place(backbone: Backbone, place: Path) -> Path:
    if place.is_file():
        return place
    if place.is_dir():
        names = (backbone.weights_file, backbone.keras_file)
        for name in names:
            if (place / name).is_file():
                return place / name
        raise MissingError(f"no weights of {backbone.name} in the folder", place, f"put {' or '.join(names)} there")
    raise MissingError(f"no such file or folder with weights of {backbone.name}", place, "check --weights")


def _download(backbone: Backbone, path: Path) -> None:
    keras = import_keras()
    try:
        getattr(keras.applications, backbone.name)(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises bare Exception when a download fails
        raise MissingError(
            f"the pretrained weights of {backbone.name} are not here and could not be downloaded ({error})",
            backbone.keras_file,
            f"put {backbone.weights_file} or {backbone.keras_file} into a folder and give it with --weights or "
            f"CERVICYTE_WEIGHTS, or put {backbone.keras_file} into {path.parent}",
        ) from error
    if not path.is_file():
        raise MissingError(
            f"Keras loaded {backbone.name} but left no weights file", path, "give the file with --weights"
        )
