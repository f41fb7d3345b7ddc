"""A file of a data set, fetched from its address: verified, and there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longwave.errors import DataError

__all__ = ["OFFLINE", "RemoteFile", "fetch"]

OFFLINE = "LONGWAVE_OFFLINE"
_log = logging.getLogger(__name__)
_TIMEOUT = 30  # seconds without a byte
_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


@dataclass(frozen=True)
class RemoteFile:
    """A file that a data set needs, where it is published, and how it is known to be the right one.

    Args:
        name: its name in the data set's folder.
        address: where it is published.
        digest: its published checksum, ``"md5:…"`` or ``"sha256:…"`` in hexadecimal; empty: none is published.
        inspect: says what is wrong with the content of a file, or None; for files whose bytes may differ although
            their content is the same.
    """

    name: str
    address: str
    digest: str = ""
    inspect: Callable[[Path], str | None] | None = None

    def fault(self, path: Path) -> str | None:
        """What is wrong with the file at ``path``, in words; None: nothing."""
        if self.digest:
            algorithm, expected = self.digest.split(":")
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, algorithm).hexdigest()
            if found != expected:
                return f"{algorithm} {found}, expected {expected}"
        return None if self.inspect is None else self.inspect(path)

    def verified(self, folder: Path) -> Path:
        """The file in a folder, if it is there and the right one.

        Raises:
            DataError: it is missing or damaged.
        """
        path = folder / self.name
        if not path.is_file():
            raise DataError(f"{path} is missing; it is published as {self.address}")
        if fault := self.fault(path):
            raise DataError(f"{path} is damaged: {fault}; delete it and fetch it again from {self.address}")
        return path


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Download a file into a folder, with a progress bar on a terminal.

    The bytes go to a partial name beside the place, are verified there, and only then moved. Whatever goes wrong, an
    interruption included, leaves nothing behind.

    Args:
        file: what to fetch.
        folder: where to; it is made if it does not exist.

    Returns:
        The path of the file, ``folder / file.name``.

    Raises:
        DataError: ``$LONGWAVE_OFFLINE`` forbids the network, the address cannot be reached or does not have the file,
            what arrived is incomplete or not the right file, or it cannot be written.
    """
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise DataError(f"{file.name} would be fetched from {file.address}, but ${OFFLINE} forbids it")
    _log.info("fetching %s from %s", file.name, file.address)
    partial = folder / f".{file.name}.{os.getpid()}.partial"
    with _explained(file, folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _receive(file, partial)
            if fault := file.fault(partial):
                raise DataError(f"what arrived from {file.address} is not {file.name}: {fault}; nothing of it is kept")
            os.replace(partial, folder / file.name)
        finally:
            partial.unlink(missing_ok=True)
    return folder / file.name


def _receive(file: RemoteFile, partial: Path) -> None:
    from rich.console import Console
    from rich.progress import wrap_file

    request = urllib.request.Request(file.address, headers={"User-Agent": "longwave"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, partial.open("wb") as written:
        promised = int(response.headers.get("Content-Length") or 0)
        quiet = not sys.stderr.isatty()
        bar = {"description": file.name, "transient": True, "console": Console(stderr=True), "disable": quiet}
        with wrap_file(response, promised, **bar) as received:
            shutil.copyfileobj(received, written, 1 << 16)
        if promised and written.tell() != promised:
            raise DataError(
                f"{file.name} broke off after {written.tell()} of {promised} bytes from {file.address}; try again"
            )


@contextmanager
def _explained(file: RemoteFile, folder: Path) -> Iterator[None]:
    """Turn what network and disk raise into one line that says what to do."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{file.address} answers {error.code} {error.reason}: {file.name} is not there") from error
    except _NETWORK as error:
        why = getattr(error, "reason", None) or error or type(error).__name__
        raise DataError(f"cannot fetch {file.address}: {why}; check the network") from error
    except OSError as error:
        raise DataError(
            f"cannot write {file.name} to {folder}: {error.strerror}; make room or choose another place with "
            "$XDG_CACHE_HOME"
        ) from error
