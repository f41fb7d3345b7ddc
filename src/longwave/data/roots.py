"""Where data sets lie: the folder that the user names, then the one that ``$LONGWAVE_DATA`` names."""

from __future__ import annotations

import os
from pathlib import Path

from longwave.errors import DataError

__all__ = ["find"]

VARIABLE = "LONGWAVE_DATA"


def find(name: str, data_root: str | Path | None = None) -> Path:
    """The folder of a data set, looked for under ``data_root`` and then under ``$LONGWAVE_DATA``.

    Args:
        name: the folder's name under a data root, for example ``"mnist"``.
        data_root: the folder that holds data sets, one folder each; None: only the environment is asked.

    Returns:
        The first of these folders that exists. What is in it is for the data set's own reader to verify.

    Raises:
        DataError: a data root does not exist, or none of them has the data set; says where it was looked for.
    """
    given = {"--data_root": data_root, f"${VARIABLE}": os.environ.get(VARIABLE)}
    roots = {source: Path(root).expanduser() for source, root in given.items() if root}
    for source, root in roots.items():
        if not root.is_dir():
            raise DataError(f"{source} is {root}, which is not a folder; name the folder that holds {name}/")
        if (root / name).is_dir():
            return root / name
    looked = " and ".join(f"{root / name} ({source})" for source, root in roots.items()) or "no data root is given"
    raise DataError(f"data set {name!r} not found: {looked}; put its files into ROOT/{name}/ and give --data_root ROOT")
