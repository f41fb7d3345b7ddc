"""Where data sets lie: a folder that the user names, ``$LONGWAVE_DATA``, the user's cache, and last the network."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from longwave.data.download import RemoteFile, fetch
from longwave.errors import DataError

__all__ = ["cache", "find"]

VARIABLE = "LONGWAVE_DATA"


def find(name: str, data_root: str | Path | None = None, files: Sequence[RemoteFile] = ()) -> Path:
    """The folder of a data set: under ``data_root``, ``$LONGWAVE_DATA`` or ``cache``, else downloaded to the cache.

    Args:
        name: the folder's name under a data root, for example ``"mnist"``.
        data_root: the folder that holds data sets, one folder each; None: the other places alone.
        files: what the data set consists of and where it is published. Those that the cache does not have are
            downloaded into it; empty: nothing is downloaded.

    Returns:
        The first of these folders that exists. What is in it is for the data set's own reader to verify.

    Raises:
        DataError: a data root does not exist, nothing has the data set, or the download fails; says where it was
            looked for.
    """
    given = {"--data_root": data_root, f"${VARIABLE}": os.environ.get(VARIABLE)}
    roots = {source: Path(root).expanduser() for source, root in given.items() if root}
    for source, root in roots.items():
        if not root.is_dir():
            raise DataError(f"{source} is {root}, which is not a folder; name the folder that holds {name}/")
        if (root / name).is_dir():
            return root / name
    folder = cache() / name
    absent = [file for file in files if not (folder / file.name).is_file()]
    if absent or not folder.is_dir():
        roots["cache"] = cache()
        looked = ", ".join(f"{root / name} ({source})" for source, root in roots.items())
        _complete(name, folder, absent, looked)
    return folder


def _complete(name: str, folder: Path, absent: list[RemoteFile], looked: str) -> None:
    """Download what the cache lacks of a data set."""
    by_hand = f"put its files into ROOT/{name}/ and give --data_root ROOT"
    if not absent:
        raise DataError(f"data set {name!r} not found: looked for {looked}; {by_hand}")
    try:
        for file in absent:
            fetch(file, folder)
    except DataError as error:
        raise DataError(f"data set {name!r} not found in {looked}, and {error}; or {by_hand}") from error


def cache() -> Path:
    """Where downloaded data sets are kept: ``$XDG_CACHE_HOME/longwave``, else the platform's place for caches."""
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root).expanduser() / "longwave"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "longwave"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "longwave"
    return Path.home() / ".cache" / "longwave"
