"""Files and folders that operating systems, file servers and programs leave in a folder that they looked at.

Nobody put them there, and nobody means them: thumbnails of images are no images of a data set, and a bundle that
Finder opened is the same bundle.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

#: In lower case: of Finder, Explorer, Linux desktops, Synology, QNAP, NetApp, ZFS, Netatalk, version control, Python.
_FOLDERS = frozenset(
    {
        "__macosx", ".appledouble", ".appledb", ".appledesktop", ".trash", ".trashes", ".spotlight-v100",
        ".fseventsd", ".temporaryitems", "temporary items", "network trash folder", ".documentrevisions-v100",
        "$recycle.bin", "recycler", "recycled", "system volume information", "$extend",
        "lost+found", ".thumbnails", ".xvpics", ".sharedthumbnails", "#recycle", "#snapshot", "@eadir", "@tmp",
        "@sharebin", "@recycle", "@recently-snapshot", ".@__thumb", ".snapshot", "~snapshot", ".snapshots", ".zfs",
        ".git", ".svn", ".hg", ".dvc", "__pycache__", ".ipynb_checkpoints", ".venv", "node_modules", ".idea", ".vscode",
        ".stfolder", ".stversions", ".synologyworkingdirectory", ".cache", ".dropbox.cache", ".tmp.drivedownload",
        ".tmp.driveupload",
    }
)  # fmt: skip
_NUMBERED_FOLDER = re.compile(r"\.trash-\d+|found\.\d{3}")

_FILES = frozenset(
    {
        ".ds_store", ".localized", ".apdisk", ".volumeicon.icns", "icon\r", "thumbs.db", "thumbs.db:encryptable",
        "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", ".directory", "picasa.ini", ".picasa.ini",
        "zbthumbnail.info", ".gitattributes", ".gitignore", ".gitkeep", ".dropbox", ".dropbox.attr",
    }
)  # fmt: skip
#: Extended attributes of a Mac, and of Windows where another system copied them; locks of Word and LibreOffice; files
#: deleted while open, of FUSE and NFS.
_MARKED_FILE = re.compile(
    r"\._.+|.+[:\uf03a]zone\.identifier|~\$.+|\.~lock\..+#|\.fuse_hidden[0-9a-f]+|\.nfs[0-9a-f]+", re.DOTALL
)


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name was made by a system or program, whatever its case."""
    name = name.lower()
    return name in _FOLDERS or _NUMBERED_FOLDER.fullmatch(name) is not None


def is_system_file(name: str) -> bool:
    """Whether a file of this name was made by a system or program, whatever its case."""
    name = name.lower()
    return name in _FILES or _MARKED_FILE.fullmatch(name) is not None


def own_entries(folder: Path) -> set[str]:
    """Names of the files and folders in a folder, without those that systems make."""
    with os.scandir(folder) as entries:
        return {
            entry.name
            for entry in entries
            if not (is_system_folder(entry.name) if entry.is_dir() else is_system_file(entry.name))
        }
