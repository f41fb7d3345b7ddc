"""What every test has: shapes and types checked at run time, the data folder, a way to force an instruction set."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

# Before longwave is imported: annotations of the named modules are checked at every call. Implementation files are not.
_OPS = (path.parent.name for path in Path(__file__).parents[1].glob("src/longwave/ops/*/_api.py"))
_CHECKED = (
    "math",
    "layers",
    "pretrained",
    "models",
    "compat",
    "data",
    "train",
    "plots",
    "recipes",
    *(f"ops.{op}._api" for op in _OPS),
)
jaxtyping.install_import_hook([f"longwave.{module}" for module in _CHECKED], "beartype.beartype")

from longwave.ops import _native  # noqa: E402  (the hook must come first)

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reaches the network, or what a developer has downloaded; those of the download itself say otherwise."""
    monkeypatch.setenv("LONGWAVE_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the run-time checks: what a user's mistake meets outside the tests is longwave's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def native_isa(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Run the native kernels with the instruction set `request.param`; None leaves them alone."""
    isa = getattr(request, "param", None)
    if isa is None:
        yield None
        return
    before = _native.kernels().active()
    _native.kernels().use(isa)
    yield isa
    _native.kernels().use(before)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; its absence skips, or fails where LONGWAVE_REQUIRE_DATA=1 promises it."""
    root = Path(os.environ.get("LONGWAVE_DATA", ""))
    if os.environ.get("LONGWAVE_DATA") and root.is_dir():
        return root
    why = f"LONGWAVE_DATA={os.environ.get('LONGWAVE_DATA', '')!r} is not a folder of data sets"
    if os.environ.get("LONGWAVE_REQUIRE_DATA") == "1":
        pytest.fail(why)
    pytest.skip(why)
