"""What the names of folders and files say besides the class: which part of a division, and what is a mask."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

_SPLIT_WORDS = {
    "train": {"train", "training", "trn", "trainval"},
    "val": {"val", "valid", "validation", "validate", "dev", "development"},
    "test": {"test", "testing", "tst", "holdout", "heldout", "eval", "evaluation"},
}
#: Words that say nothing beside "train" or "test".
_FILLERS = {"set", "sets", "data", "dataset", "split", "folder", "images", "image", "imgs", "img", "cells", "crops"}
_FOLD = re.compile(r"(?:cv)?fold0*(\d+)")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_GLUED = re.compile(
    f"^({'|'.join(sorted((w for words in _SPLIT_WORDS.values() for w in words), key=len, reverse=True))})"
    f"({'|'.join(sorted(_FILLERS, key=len, reverse=True))})$"
)

#: Names of folders that hold the images of a segmentation set, and the masks; letters and digits only.
_IMAGE_FOLDERS = {
    "images", "image", "img", "imgs", "pictures", "originals", "original", "raw", "rawimages", "jpegimages", "fields",
    "inputs", "input", "data", "dataset", "crops", "rgb", "imagestr", "imagests",
}  # fmt: skip
_MASK_FOLDERS = re.compile(
    r"\w*masks?|labels?|labelimages|labels(tr|ts)|annotations?|annots?|gts?|groundtruths?|segs?|segmentations?|segmented"
    r"|segmentation(class|object)(raw)?|targets?|trimaps?|contours?"
)
_MARK = r"(?:masks?|seg(?:mentation)?|labels?|annotations?|gt|ground[-_ ]?truth|contours?)"
_MARK_AT_END = re.compile(rf"[-_. ]{_MARK}(?:[-_ ]?\d+)?$", re.IGNORECASE)
_MARK_AT_START = re.compile(rf"^{_MARK}[-_. ]", re.IGNORECASE)


def split_name(name: str) -> str:
    """Which part of a division a folder or a value of a column "split" names: "train", "val", "test", "fold3", or "".

    >>> [split_name(n) for n in ("Train", "training_set", "TestData", "valid", "fold-03", "test_2", "attest", "set")]
    ['train', 'train', 'test', 'val', 'fold3', 'test', '', '']
    """
    words = _words(name)
    if fold := _FOLD.fullmatch("".join(words)):
        return f"fold{fold[1]}"
    rest = [word for word in words if word not in _FILLERS and not word.isdigit()]
    parts = _parts(rest)
    known = all(any(word in names for names in _SPLIT_WORDS.values()) for word in rest)
    if parts == {"train", "val"} and len(rest) == 2:  # "train_val": both, and so what is trained on
        return "train"
    return parts.pop() if known and len(parts) == 1 else ""


def division(chains: Iterable[Sequence[str]]) -> dict[str, str]:
    """Which part each outermost folder is, where all together are a division whatever else their names say; or none.

    They are one where each name has a word of one part, the parts differ, and all have two folders or more in common.

    >>> division([(top, c) for top in ("cervix_train", "external_test") for c in ("NILM", "HSIL")])
    {'cervix_train': 'train', 'external_test': 'test'}
    """
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for folders in chains:
        inside[folders[0]].update(folders[1:2])
    parts = {name: _parts(_words(name)) for name in inside}
    if not parts or any(len(part) != 1 for part in parts.values()) or len(set[str]().union(*parts.values())) < 2:
        return {}
    return {name: part.pop() for name, part in parts.items()} if len(set.intersection(*inside.values())) > 1 else {}


def _words(name: str) -> list[str]:
    """Words of a name in lower case; those that are written together with a filler are two."""
    words = " ".join(_GLUED.sub(r"\1 \2", word.lower()) for word in _WORDS.findall(name)).split()
    return ["holdout", *words[2:]] if "".join(words[:2]) in ("holdout", "heldout") else words


def _parts(words: Iterable[str]) -> set[str]:
    return {part for part, names in _SPLIT_WORDS.items() for word in words if word in names}


def is_image_folder(name: str) -> bool:
    """Whether a folder is named for holding images, which is no class."""
    return _plain(name) in _IMAGE_FOLDERS


def segmentation_masks(images: Sequence[Path], root: Path) -> set[Path]:
    """Images that are masks of others.

    Either the file is named so and the image of which it is the mask lies beside it ("a_mask.png" beside
    "a.png"), or its folder is ("masks", "GT"), and beside that folder lies one named for images, or one
    that holds at least half of its file names.
    """
    stems: defaultdict[Path, set[str]] = defaultdict(set)
    for path in images:
        stems[path.parent].add(path.stem)
    masks = {path for path in images if _bare(path.stem, stems[path.parent])}
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    children: defaultdict[Path, set[Path]] = defaultdict(set)
    for path in images:
        for folder in path.parents:
            if folder == root:
                break
            folders[folder].append(path)
            children[folder.parent].add(folder)
    for folder, inside in folders.items():
        if not _MASK_FOLDERS.fullmatch(_plain(folder.name)):
            continue
        others = [f for f in children[folder.parent] if f != folder and not _MASK_FOLDERS.fullmatch(_plain(f.name))]
        named = any(is_image_folder(other.name) for other in others)
        if named or _mostly_inside(inside, folder, [(folders[o], o) for o in others]) or _beside(inside, folder, stems):
            masks.update(inside)
    return masks


def _mostly_inside(masks: list[Path], folder: Path, others: list[tuple[list[Path], Path]]) -> bool:
    for images, other in others:
        names = {path.relative_to(other).with_suffix("") for path in images}
        places = [path.relative_to(folder) for path in masks]
        known = sum(p.with_suffix("") in names or p.with_name(_without_mark(p.stem)) in names for p in places)
        if 2 * known >= len(masks):
            return True
    return False


def _beside(masks: list[Path], folder: Path, stems: dict[Path, set[str]]) -> bool:
    """Whether the images lie in the folder that holds the folder of masks."""
    names = stems.get(folder.parent, set())
    return 2 * sum(p.stem in names or _without_mark(p.stem) in names for p in masks) >= len(masks)


def _bare(stem: str, beside: Collection[str]) -> str:
    """The name of the image of which a file is the mask, where that lies beside it, or ""."""
    name = _without_mark(stem)
    if name == stem or not name:
        return ""
    return next((n for n in (name, f"image_{name}", f"img_{name}", f"{name}_image") if n in beside), "")


def _without_mark(stem: str) -> str:
    return _MARK_AT_START.sub("", _MARK_AT_END.sub("", stem))


def _plain(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())
