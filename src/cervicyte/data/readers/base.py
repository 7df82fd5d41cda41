"""What all readers share: the row that describes a data set, the listing of a folder, and the notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cervicyte.base.files import printable
from cervicyte.base.wording import plural
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import LabelSystem
from cervicyte.data.readers.folder_names import segmentation_masks, split_name
from cervicyte.errors import CervicyteError, DataError
from cervicyte.images.decoding import SUFFIXES, named_as_image, read_bytes, read_header, walk

#: What it means that nothing tells the groups.
UNGROUPED = (
    "groups: nothing tells which cells come from one slide or patient, so each file is its own group; siblings may "
    "stand on both sides of a split, scores are then too high and their intervals too narrow; "
    "give --group-from REGEX or a groups.csv"
)

#: How many examples a note or message names.
EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a folder, walked once; nothing is opened.

    Attributes
    ----------
    root : the folder
    images : files whose ending is an image's, without segmentation masks
    masks : images that are segmentation masks by the names of their files or folders
    others : all other files, hidden ones too
    system : name of a hidden folder, or one that a system made -> images in it, which are nobody's cells
    problems : one line for each folder that could not be walked
    """

    root: Path
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    others: tuple[Path, ...]
    system: Mapping[str, int]
    problems: tuple[str, ...]

    def folders(self, path: Path) -> tuple[str, ...]:
        """Names of the folders between the root and a file, outermost first."""
        return path.relative_to(self.root).parts[:-1]

    def split(self, path: Path) -> str:
        """The split that a folder above the file names (see `folder_names.split_name`), or ""."""
        return next(filter(None, map(split_name, self.folders(path))), "")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One row of the registry: what a data set is, what it should hold, and how it is read.

    Attributes
    ----------
    name : its name for ``--reader``
    title : its name in words
    system : its label system; None where the user's own classes make one
    counts : cells of each class in the original; empty where there is no original
    groups : what a group is, in words
    citation, licence, homepage : whose it is, on what terms, and where to get it
    read : path to CellTable
    recognise : why a listing looks like this data set, or "" where it does not
    """

    name: str
    title: str
    system: LabelSystem | None
    groups: str
    read: Callable[..., CellTable]
    recognise: Callable[[Listing], str]
    counts: Mapping[str, int] = field(default_factory=dict)
    citation: str = ""
    licence: str = ""
    homepage: str = ""

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", f"  group     {self.groups}"]
        if self.counts:
            classes = ", ".join(f"{label} {n}" for label, n in self.counts.items())
            lines.insert(1, f"  classes   {classes} (together {sum(self.counts.values())})")
        for key, value in (("cite", self.citation), ("licence", self.licence), ("get it at", self.homepage)):
            if value:
                lines.append(f"  {key:<9} {value}")
        return "\n".join(lines)


def list_files(root: Path) -> Listing:
    """Walk a folder.

    Raises
    ------
    DataError : not a folder
    """
    if not root.is_dir():
        raise DataError("this reader reads a folder", printable(root), "give the folder that holds the classes")
    entries = list(walk(root))
    files = [entry.path for entry in entries if entry.problem is None and not entry.system_folder]
    images = [path for path in files if named_as_image(path)]
    masks = segmentation_masks(images, root)
    system = Counter(
        printable(entry.system_folder) for entry in entries if entry.system_folder and named_as_image(entry.path)
    )
    return Listing(
        root=root,
        images=tuple(path for path in images if path not in masks),
        masks=tuple(path for path in images if path in masks),
        others=tuple(path for path in files if not named_as_image(path)),
        system=system,
        problems=tuple(printable(entry.problem.one_line) for entry in entries if entry.problem is not None),
    )


def class_folders(listing: Listing, system: LabelSystem) -> dict[Path, str]:
    """The class of each folder with files, by the innermost folder name that the label system knows."""
    known: dict[str, str] = {}
    classes: dict[Path, str] = {}
    for folder in dict.fromkeys(p.parent for p in (*listing.images, *listing.others)):
        for name in reversed(folder.relative_to(listing.root).parts):
            if name not in known:
                known[name] = _canonical(system, name)
            if known[name]:
                classes[folder] = known[name]
                break
    return classes


def _canonical(system: LabelSystem, name: str) -> str:
    try:
        return system.canonical(name)
    except DataError:
        return ""


def image_size(image: Path) -> tuple[int, int] | None:
    """Width and height from the header; None where it cannot be read (its cells report that when they are used)."""
    try:
        header = read_header(read_bytes(image), image)
    except CervicyteError:
        return None
    return header.width, header.height


def under_system(cells: Sequence[Cell], system: LabelSystem) -> tuple[list[Cell], list[str]]:
    """The cells under the names of their label system, and a note on the labels that got another name."""
    names = {label: system.canonical(label) for label in dict.fromkeys(c.label for c in cells)}
    other = [f"{printable(label)!r} as {name}" for label, name in names.items() if label != name]
    notes = [f"classes: read as the label system {system.name!r}, {', '.join(other)}"] if other else []
    return [replace(c, label=names[c.label]) for c in cells], notes


def examples(names: Iterable[object], limit: int = EXAMPLES) -> str:
    """The first few names, quoted, and how many more there are."""
    shown = [repr(printable(name)) for name in names]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def file_examples(paths: Sequence[Path], root: Path) -> str:
    """`examples` of paths, relative to the root."""
    return examples(p.relative_to(root).as_posix() if p.is_relative_to(root) else p for p in paths)


def count_note(name: str, declared: Mapping[str, int], cells: Sequence[Cell], unit: str = "cell") -> list[str]:
    """A note on each class with another count than the original, or none where all agree."""
    counts = Counter(cell.label for cell in cells)
    return counted_note(name, declared, counts, unit)


def counted_note(name: str, declared: Mapping[str, int], counts: Mapping[str, int], unit: str) -> list[str]:
    """`count_note` for counts that are already made."""
    other = [f"{label} {counts.get(label, 0)} of {n}" for label, n in declared.items() if counts.get(label, 0) != n]
    other += [f"{label} {n} of none" for label, n in counts.items() if n and label not in declared]
    if not other:
        return []
    total = sum(counts.values())
    return [
        f"counts: not the complete {name}: {plural(total, unit)} where the original has {sum(declared.values())} "
        f"({', '.join(other)})"
    ]


def passed_over(listing: Listing, used: Collection[Path]) -> list[str]:
    """Notes on masks, on files that are not images, and on the folders that could not be walked."""
    notes = []
    if listing.masks:
        notes.append(
            f"passed over: {plural(len(listing.masks), 'segmentation mask')}, told by the names of their files or "
            f"folders; they are not images ({file_examples(listing.masks, listing.root)})"
        )
    return [*notes, *not_images(listing, used), *(f"passed over: {problem}" for problem in listing.problems)]


def not_images(listing: Listing, used: Collection[Path] = ()) -> list[str]:
    """Notes on the files that are not named as an image, by ending, and on images in folders that systems make."""
    rest = [p for p in listing.others if p not in used]
    notes = []
    if rest:
        endings = Counter(_ending(p) for p in rest).most_common(EXAMPLES)
        listed = ", ".join(f"{ending} {n}" for ending, n in endings)
        more = len(rest) - sum(n for _, n in endings)
        listed += f" and {more} more" if more else ""
        notes.append(f"passed over: {plural(len(rest), 'file')} not named as an image ({listed})")
    if listing.system:
        folders = ", ".join(f"{name} {n}" for name, n in sorted(listing.system.items()))
        notes.append(
            f"passed over: {plural(sum(listing.system.values()), 'image')} in hidden folders or folders that systems "
            f"make ({folders})"
        )
    return notes


def _ending(path: Path) -> str:
    ending = printable(path.suffix.lower()) or "no ending"
    return f"hidden {ending}" if named_as_image(path.with_name(path.name.lstrip("."))) else ending


def nothing_here(listing: Listing) -> DataError:
    """The error for a folder without an image, which says what was looked for."""
    passed = "; ".join(passed_over(listing, ())) or "it holds no file"
    return DataError(
        "no images in the folder",
        f"{printable(listing.root)}: {passed}",
        f"put each class's images into a folder named after it; images end in {', '.join(sorted(SUFFIXES))}",
    )


def left_out(listing: Listing, paths: Sequence[Path], why: str) -> list[str]:
    """A note on images that a reader did not take, or none where it took all."""
    if not paths:
        return []
    return [f"passed over: {plural(len(paths), 'image')} {why} ({file_examples(paths, listing.root)})"]
