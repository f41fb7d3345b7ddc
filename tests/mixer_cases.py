"""The mixers' rows of the table: every configuration that the contract tests of the layers run."""

from dataclasses import dataclass, field
from typing import Any

import torch

from longwave.layers import MIXERS, LTIMixer, Mixer

WIDTH = 4


@dataclass(frozen=True)
class MixerCase:
    """A mixer and its options; ``long`` cases also run at the full length of 16,384.

    ``projected``: what enters the system is a product in the precision of the layer, so that is how exact states are.
    ``rate=False``: it has none; ``slow=False``: no parameter of it sets a time scale.
    """

    id: str
    mixer: str
    options: dict[str, Any] = field(default_factory=dict)
    long: bool = False
    rate: bool = True
    slow: bool = True
    projected: bool = False

    @property
    def by_fft(self) -> bool:
        """Whether sequences are convolved by FFT, which rounds relative to the whole row."""
        return self.mixer == "RTF"

    @property
    def size_option(self) -> str:
        """The name of an option that is a size."""
        return {"RWKV": "d_attention", "RetNet": "heads"}.get(self.mixer, "d_state")

    def state_dtype(self, precision: torch.dtype) -> torch.dtype:
        """What states are kept in: complex numbers, but for the mixers with real matrices."""
        real = ("LMU", "LMUCell", "LSSL", "RTF", "Mamba", "Mamba2", "Mamba3", "RWKV", "RetNet")
        return precision if self.mixer in real else precision.to_complex()

    def build(self, dtype: torch.dtype = torch.float32) -> Mixer:
        """The layer, the same at each call."""
        torch.manual_seed(0)
        return MIXERS[self.mixer](WIDTH, **self.options).to(dtype).eval()


MIXER_CASES = (
    MixerCase("S4D", "S4D", {"d_state": 8}, long=True),
    MixerCase("S4D-inv-bilinear", "S4D", {"d_state": 8, "init": "inv", "discretization": "bilinear"}),
    MixerCase(
        "S4D-lin-bandlimit", "S4D", {"d_state": 16, "init": "lin", "dt_min": 0.1, "dt_max": 0.5, "bandlimit": 0.5}
    ),
    MixerCase("S4D-real-linear", "S4D", {"d_state": 2, "init": "real", "output": "linear"}),
    MixerCase("S4D-random-no-output", "S4D", {"d_state": 8, "init": "random", "output": None, "dropout": 0.5}),
    MixerCase("DSS", "DSS", {"d_state": 6}, long=True),
    MixerCase("DSS-softmax", "DSS", {"d_state": 6, "version": "softmax", "l_max": 1047}),
    MixerCase(
        "DSS-softmax-lin-no-output",
        "DSS",
        {
            "d_state": 3,
            "version": "softmax",
            "l_max": 40,
            "init": "lin",
            "dt_min": 0.01,
            "output": None,
            "dropout": 0.5,
        },
    ),
    MixerCase("S5", "S5", {"d_state": 8}, long=True),
    MixerCase("S5-blocks-bilinear", "S5", {"d_state": 12, "blocks": 3, "discretization": "bilinear"}),
    MixerCase("S5-linear", "S5", {"d_state": 2, "dt_min": 0.5, "dt_max": 1.0, "output": "linear", "dropout": 0.5}),
    MixerCase("S5-slow-no-output", "S5", {"d_state": 4, "dt_min": 1e-4, "dt_max": 1e-3, "output": None}, long=True),
    MixerCase("S4", "S4", {"d_state": 4}, long=True),
    MixerCase(
        "S4-fast-clipped", "S4", {"d_state": 6, "measure": "legt", "B_clip": 2.0, "dt_min": 0.1, "output": "linear"}
    ),
    MixerCase("S4-slow", "S4", {"d_state": 2, "dt_min": 1e-4, "dt_max": 1e-3, "output": None, "dropout": 0.5}),
    MixerCase("RTF", "RTF", {"d_state": 6, "init": "montel"}, long=True, rate=False),
    MixerCase("RTF-short-linear", "RTF", {"d_state": 3, "l_max": 4, "init": "montel", "output": "linear"}, rate=False),
    MixerCase(
        "RTF-no-output",
        "RTF",
        {"d_state": 5, "l_max": 300, "init": "montel", "output": None, "dropout": 0.5},
        rate=False,
    ),
    MixerCase("LRU", "LRU", {"d_state": 6}, long=True),
    MixerCase("LRU-slow-no-output", "LRU", {"d_state": 3, "r_min": 0.999, "r_max": 0.9999, "output": None}, long=True),
    MixerCase("LRU-linear", "LRU", {"d_state": 5, "max_phase": 0.3, "output": "linear", "dropout": 0.5}),
    MixerCase("LMU", "LMU", {"d_state": 6}, long=True, slow=False),
    MixerCase("LMU-short-linear", "LMU", {"d_state": 3, "theta": 1.5, "output": "linear"}, slow=False),
    MixerCase(
        "LMU-learned-no-output",
        "LMU",
        {"d_state": 5, "theta": 4.5, "learned": True, "output": None, "dropout": 0.5},
    ),
    MixerCase("LMUCell", "LMUCell", {"d_state": 6}, long=True, rate=False, slow=False),
    MixerCase("LMUCell-memories", "LMUCell", {"d_state": 3, "theta": 4.5, "memories": 2}, rate=False, slow=False),
    MixerCase("LSSL", "LSSL", {"d_state": 6}, long=True),
    MixerCase("LSSL-learned-backward-euler", "LSSL", {"d_state": 5, "learned": True, "alpha": 1.0}),
    MixerCase(
        "LSSL-learned-fast-no-output",
        "LSSL",
        {"d_state": 3, "learned": True, "dt_min": 0.1, "dt_max": 0.5, "output": None, "dropout": 0.5},
    ),
    MixerCase("Mamba", "Mamba", {}, long=True, rate=False, projected=True),
    MixerCase(
        "Mamba-wide-taps",
        "Mamba",
        {"d_state": 5, "d_conv": 7, "expand": 3, "dt_rank": 3, "dt_min": 0.1, "dt_max": 2.0, "bias": True},
        rate=False,
        projected=True,
    ),
    MixerCase(
        "Mamba-narrow",
        "Mamba",
        {"d_state": 1, "d_conv": 2, "expand": 1, "dt_init": "constant", "conv_bias": False},
        rate=False,
        projected=True,
    ),
    MixerCase("Mamba-normed", "Mamba", {"d_state": 3, "norm_eps": 1e-6}, rate=False, projected=True),
    MixerCase(
        "RWKV",
        "RWKV",
        {"layer": 1, "layers": 2, "zero_init": False},
        long=True,
        rate=False,
        slow=False,
        projected=True,
    ),
    MixerCase(
        "RWKV-wide",
        "RWKV",
        {"d_attention": 6, "layer": 1, "layers": 3, "zero_init": False},
        rate=False,
        slow=False,
        projected=True,
    ),
    MixerCase("RetNet", "RetNet", {"heads": 2}, long=True, rate=False, slow=False, projected=True),
    MixerCase("RetNet-one-head", "RetNet", {"heads": 1, "value_factor": 1}, rate=False, slow=False, projected=True),
    MixerCase("Mamba2", "Mamba2", {"d_state": 8, "headdim": 2}, long=True, rate=False, projected=True),
    MixerCase(
        "Mamba2-groups-limits",
        "Mamba2",
        {"d_state": 4, "headdim": 2, "ngroups": 2, "D_has_hdim": True, "norm_before_gate": True, "bias": True}
        | {"dt_limit": (0.005, 0.05), "d_conv": 3, "conv_bias": False},
        rate=False,
        projected=True,
    ),
    MixerCase(
        "Mamba2-no-norm",
        "Mamba2",
        {"d_state": 3, "headdim": 4, "rmsnorm": False, "d_conv": 2},
        rate=False,
        projected=True,
    ),
    MixerCase(
        "Mamba2-partly",
        "Mamba2",
        {"d_state": 3, "headdim": 2, "d_ssm": 4, "ngroups": 2},
        rate=False,
        projected=True,
    ),
    MixerCase("Mamba3", "Mamba3", {"d_state": 8, "headdim": 2}, long=True, rate=False, projected=True),
    MixerCase(
        "Mamba3-groups-softplus-norm",
        "Mamba3",
        {"d_state": 4, "headdim": 2, "ngroups": 2, "A_activation": "softplus", "is_outproj_norm": True}
        | {"rope_fraction": 1.0, "pairing": "halves"},
        rate=False,
        projected=True,
    ),
    MixerCase(
        "Mamba3-mimo",
        "Mamba3",
        {"d_state": 8, "headdim": 4, "is_mimo": True, "mimo_rank": 3},
        rate=False,
        projected=True,
    ),
    MixerCase(
        "Mamba3-mimo-norm",
        "Mamba3",
        {"d_state": 4, "headdim": 2, "is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True}
        | {"pairing": "interleaved"},
        rate=False,
        projected=True,
    ),
)

# The rows whose mixers are linear and time-invariant: they have a kernel, matrices and a cache of their system.
LTI_CASES = tuple(case for case in MIXER_CASES if issubclass(MIXERS[case.mixer], LTIMixer))
