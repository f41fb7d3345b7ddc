"""``longwave.compat.transformers()``: the state space models of transformers on our operations."""

import functools
import importlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn

from longwave.compat import mixers
from longwave.compat.causal_conv import causal_conv1d_fn, causal_conv1d_update
from longwave.compat.rebinding import Rebinding, Watch
from longwave.errors import MissingExtraError, UnsupportedError
from longwave.layers.projection import project_by
from longwave.ops import _native

OLDEST = (5, 15)  # before, a mixer on the CPU runs another method, and its cache has other names
FILE = re.compile(r"transformers\.models\.(\w+)\.modeling_\1")

# of each modeling file: its mixer, and what runs in the place of the mixer's forward
MIXERS: Mapping[str, tuple[str, mixers.Run]] = {
    "mamba": ("MambaMixer", mixers.mamba),
    "falcon_mamba": ("FalconMambaMixer", mixers.mamba),
    "jamba": ("JambaMambaMixer", mixers.mamba),
    "zamba": ("ZambaMambaMixer", mixers.zamba),
    "mamba2": ("Mamba2Mixer", mixers.mamba2),
    "bamba": ("BambaMixer", mixers.mamba2),
    "falcon_h1": ("FalconH1Mixer", mixers.falcon_h1),
    "granitemoehybrid": ("GraniteMoeHybridMambaLayer", mixers.mamba2),
    "nemotron_h": ("NemotronHMamba2Mixer", mixers.mamba2),
    "zamba2": ("Zamba2MambaMixer", mixers.mamba2),
}
FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "causal_conv1d_fn": causal_conv1d_fn,
    "causal_conv1d_update": causal_conv1d_update,
}
ARGUMENTS = ("hidden_states", "cache_params", "attention_mask")


@final
@dataclass
class Engagement:
    """What became of one modeling file.

    Attributes:
        engaged: what runs by our operations now.
        left: what does not, and why.
        calls: how often what is engaged ran by our operations.
        deferred: how often it gave way to what was there before, by reason.
    """

    engaged: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    deferred: Counter[str] = field(default_factory=Counter)

    def count(self, reason: str | None) -> None:
        """Note one call; a compiled graph must not depend on the count."""
        if torch.compiler.is_compiling():
            return
        if reason is None:
            self.calls += 1
        else:
            self.deferred[reason] += 1

    def __str__(self) -> str:
        parts = [", ".join(self.engaged) or "nothing", f"{self.calls} calls"]
        parts += [f"{count} deferred: {reason}" for reason, count in self.deferred.items()]
        parts += [f"not {name}: {reason}" for name, reason in self.left.items()]
        return "; ".join(parts)


@final
class Report:
    """What `transformers` engaged, file by file, until it is undone; as a context manager, until the block ends.

    Attributes:
        version: of transformers.
        files: what became of each modeling file, under its family's name; those imported later come as they are.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.files: dict[str, Engagement] = {}
        self._rebinding = Rebinding()
        self._watch = Watch(FILE, self._engage)

    def undo(self) -> None:
        """Let every function and method be what it was before; what is imported from now on stays as it is."""
        global _in_force
        self._rebinding.undo()
        if self._watch in sys.meta_path:
            sys.meta_path.remove(self._watch)
        _in_force = None if _in_force is self else _in_force

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __str__(self) -> str:
        kernels = f"native kernels, {_native.kernels().active()}" if _native.available() else _native.missing
        lines = [f"transformers {self.version} on longwave ({kernels})"]
        lines += [f"  {family}: {file}" for family, file in sorted(self.files.items())]
        later = sorted(MIXERS.keys() - self.files.keys())
        return "\n".join([*lines, f"  when imported: {', '.join(later)}"] if later else lines)

    def _start(self) -> None:
        """Engage the files that are there, and those to come."""
        sys.meta_path.insert(0, self._watch)
        for name, module in list(sys.modules.items()):
            if FILE.fullmatch(name):
                self._engage(module)

    def _engage(self, module: ModuleType) -> None:
        """Put our operations into one modeling file, if it has a place for them."""
        family = module.__name__.split(".")[-2]
        names = [name for name, value in vars(module).items() if _looks_in_packages(value, module)]
        if not names:
            return
        file = self.files[family] = Engagement()
        if family in MIXERS:
            self._engage_mixer(module, file, *MIXERS[family])
            return
        for name in names:
            if name in FUNCTIONS:
                file.engaged.append(name)
                self._rebinding.put(module, name, _function(FUNCTIONS[name], vars(module)[name], file))
            else:
                file.left[name] = "longwave has no such operation"

    def _engage_mixer(self, module: ModuleType, file: Engagement, name: str, run: mixers.Run) -> None:
        """Put `run` in the place of a mixer's forward."""
        mixer = vars(module).get(name)
        if mixer is None or not _takes(mixer.forward, ARGUMENTS):
            file.left[name] = f"this version of it has no forward({', '.join(ARGUMENTS)})"
            return
        file.engaged.append(f"{name}.forward")
        self._rebinding.put(mixer, "forward", _forward(run, mixer.forward, file))
        for name, model in list(vars(module).items()):
            if name.endswith("ForCausalLM") and model.__module__ == module.__name__:
                file.engaged.append(f"{name}.lm_head")
                self._rebinding.put(model, "forward", _with_head(model.forward))


_in_force: Report | None = None


def transformers() -> Report:
    """Run the state space models of an installed transformers by longwave's operations on the CPU.

    The mixers of mamba, falcon_mamba, jamba, zamba, mamba2, bamba, falcon_h1, granitemoehybrid, nemotron_h and zamba2,
    in forward passes, training and generation, and the short convolutions of the other models that have one, whether
    their modeling files are imported already or later. Weights, configurations and caches stay those of transformers.
    Tensors on another device take the path that was there before.

    Two things come out otherwise than in plain transformers. A prompt in several chunks gives what it gives in one:
    the state of the Mamba-1 kinds is carried on, and the limits on dt of Mamba-2 hold for single tokens too. And
    padding, on either side, stays out of the states.

    Returns:
        What was engaged, with `undo()`; a context manager that undoes at its end. The report that is in force is
        returned again, so that calling this twice does no harm.

    Raises:
        MissingExtraError: there is no transformers.
        UnsupportedError: it is older than 5.15.

    Numerics: convolution, recurrence and gated norm run in float32 at least, whatever the model's dtype.

    Example:
        >>> import longwave.compat
        >>> with longwave.compat.transformers() as report:
        ...     from transformers import MambaConfig, MambaForCausalLM
        ...     model = MambaForCausalLM(MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1))
        ...     _ = model(torch.tensor([[1, 2, 3]]))
        >>> report.files["mamba"].engaged, report.files["mamba"].calls
        (['MambaMixer.forward', 'MambaForCausalLM.lm_head'], 1)
    """
    global _in_force
    if _in_force is None:
        report = Report(_version())
        report._start()
        _in_force = report
    return _in_force


def _version() -> str:
    """The version of transformers, which must be one that has places for our operations."""
    try:
        library = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtraError(f"there is no transformers ({error}): pip install 'transformers>=5.15'") from error
    version = library.__version__
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST:
        raise UnsupportedError(
            f"transformers {version} has no place for longwave's operations: pip install 'transformers>=5.15'"
        )
    return version


def _looks_in_packages(value: object, module: ModuleType) -> bool:
    """Whether this is a function of the module's for which transformers has looked in other packages."""
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    return value.__globals__.get("__name__") == "transformers.integrations.hub_kernels"


def _takes(function: Callable[..., Tensor], names: tuple[str, ...]) -> bool:
    """Whether a function has arguments of these names; in 5.15 a wrapper hides those of a mixer."""
    known = inspect.signature(function).parameters
    return set(names) <= known.keys() or "args" in known


def _forward(run: mixers.Run, original: Callable[..., Tensor], file: Engagement) -> Callable[..., Tensor]:
    """A mixer's forward: ours, or the original where ours cannot."""

    @functools.wraps(original)
    def forward(
        self: Any,
        hidden_states: Tensor,
        cache_params: Any = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,  # models hand on whatever they were given
    ) -> Tensor:
        why = _refuses_mixer(self, hidden_states, cache_params, kwargs)
        file.count(why)
        if why is not None:
            return original(self, hidden_states, cache_params, attention_mask, **kwargs)
        seq_idx = _without_padding(kwargs.get("seq_idx"), attention_mask, hidden_states)
        past = mixers.Past(cache_params, self.layer_idx, seq_idx)
        return run(self, hidden_states, past).to(hidden_states.dtype)

    return forward


def _with_head(original: Callable[..., Any]) -> Callable[..., Any]:
    """A language model's forward, in which its head is a map of ours; the module itself stays torch's."""

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        head = None if torch.compiler.is_compiling() else getattr(self, "lm_head", None)
        if type(head) is not nn.Linear or "forward" in vars(head) or not head.weight.is_cpu:
            return original(self, *args, **kwargs)
        vars(head)["forward"] = functools.partial(project_by, head.weight, head.bias)
        try:
            return original(self, *args, **kwargs)
        finally:
            vars(head).pop("forward", None)

    return forward


def _refuses(x: Tensor, activation: str | None, options: Mapping[str, Any]) -> str | None:
    """Why ours cannot take these, or None."""
    if not x.is_cpu:
        return f"tensors on {x.device.type}"
    if activation not in (None, "silu", "swish"):
        return f"the activation {activation}"
    if options.get("cu_seqlens") is not None and options.get("seq_idx") is None:
        return "packed sequences by cu_seqlens alone; give seq_idx"
    return None


def _refuses_mixer(mixer: Any, x: Tensor, cache: Any, options: Mapping[str, Any]) -> str | None:
    """Why ours cannot run this mixer, or None."""
    why = _refuses(x, mixer.activation, options)
    if why is not None:
        return why
    if cache is not None and cache.layers[mixer.layer_idx].record_past:
        return "a cache that records the past"
    return "weights that accelerate moves" if "_hf_hook" in vars(mixer.conv1d) else None


def _without_padding(seq_idx: Tensor | None, mask: Tensor | None, x: Tensor) -> Tensor | None:
    """The sequence that each position belongs to, −1 for padding; None where all are one sequence."""
    if mask is None:
        return seq_idx
    real = mask[:, -x.shape[1] :] != 0  # a mask may begin with positions that the cache has seen
    if not torch.compiler.is_compiling() and bool(real.all()):
        return seq_idx
    return real.int() - 1 if seq_idx is None else seq_idx.masked_fill(~real, -1)


def _function(ours: Callable[..., Tensor], original: Callable[..., Tensor], file: Engagement) -> Callable[..., Tensor]:
    """A function of a modeling file: ours, or the original where ours cannot."""
    known = inspect.signature(ours).parameters

    @functools.wraps(original)
    def function(x: Tensor, *args: Any, activation: str | None = None, **kwargs: Any) -> Tensor:
        why = _refuses(x, activation, kwargs)
        file.count(why)
        if why is not None:
            return original(x, *args, activation=activation, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name in known}  # as transformers does
        return ours(x, *args, activation=activation, **kwargs)

    return function
