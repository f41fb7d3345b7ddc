"""S4D: the layer against a textbook one and nn.LSTM, the operation against plain torch at its best, step by step.

python -m benchmarks.s4d
"""

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import measure, peers
from longwave import S4D
from longwave.math import s4d_lin, zoh
from longwave.ops import diagonal_ssm, gated_linear, long_conv, vandermonde

LAYER_SHAPES = ((8, 1024), (4, 4096))
OP_SHAPES = ((8, 1024, 128), (16, 1024, 256), (1, 16384, 128))
D_MODEL, MODES = 128, 32


def train_step(layer: nn.Module, x: Tensor) -> None:
    """Forward and backward, gradients of the input and of every parameter."""
    y = layer(x)
    y = y[0] if isinstance(y, tuple) else y
    measure.backward(y, [x, *layer.parameters()], torch.ones_like(y))


def layers() -> list[measure.Row]:
    """S4D(128) at its defaults, forward and backward."""
    rows = []
    for batch, length in LAYER_SHAPES:
        x = torch.randn(batch, length, D_MODEL, requires_grad=True)
        ours = S4D(d_model=D_MODEL, d_state=2 * MODES)
        what = f"S4D({D_MODEL}) forward+backward, ({batch}, {length})"
        rivals = {"textbook S4D": peers.TextbookS4D(D_MODEL, 2 * MODES), "nn.LSTM": peers.lstm(D_MODEL)}
        for name, rival in rivals.items():
            rows.append(measure.compare(what, partial(train_step, ours, x), name, partial(train_step, rival, x)))
    return rows


def bank(dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A discrete bank of `dim` systems with MODES complex modes, and its output weights."""
    A = s4d_lin(MODES).expand(dim, MODES)
    a, b = zoh(torch.logspace(-3, -1, dim), A, torch.ones_like(A))
    c = torch.randn(dim, MODES, dtype=torch.complex64)
    return a.to(torch.complex64), b.to(torch.complex64), c, torch.randn(dim)


def operation() -> list[measure.Row]:
    """`diagonal_ssm` against a split-GEMM kernel and torch.fft; and where the convolution's time goes."""
    rows = []
    for batch, length, dim in OP_SHAPES:
        u, (a, b, c, d) = torch.randn(batch, length, dim), bank(dim)

        def convolution(u: Tensor = u, a: Tensor = a, b: Tensor = b, c: Tensor = c, d: Tensor = d) -> Tensor:
            return long_conv(u, vandermonde(a, b * c, u.shape[1]).kernel).y + d * u

        def scan(u: Tensor = u, a: Tensor = a, b: Tensor = b, c: Tensor = c, d: Tensor = d) -> Tensor:
            return diagonal_ssm(u, None, a, b, c, d).y

        with torch.no_grad():
            row = measure.compare(
                f"diagonal_ssm forward, ({batch}, {length}, {dim})", scan, "GEMM-split kernel + torch.fft", convolution
            )
            per = 1e6 * row.ours_ms / u.numel()
            rows.append(measure.Row(**{**row.__dict__, "note": f"({per:.2f} ns per position and channel)"}))
    u, (a, b, c, d) = torch.randn(8, 1024, 128), bank(128)
    leaves = [x.requires_grad_() for x in (u, a, b, c, d)]

    def both(impl: str) -> None:
        if impl == "cpu":
            y = diagonal_ssm(u, None, a, b, c, d).y
        else:
            y = long_conv(u, vandermonde(a, b * c, u.shape[1]).kernel).y + d * u
        measure.backward(y, leaves, torch.ones_like(y))

    rows.append(
        measure.compare(
            "diagonal_ssm forward+backward, (8, 1024, 128)",
            lambda: both("cpu"),
            "GEMM-split kernel + torch.fft",
            lambda: both("fft"),
        )
    )
    return rows


def mixing() -> list[measure.Row]:
    """The map that mixes channels, forward and backward, against torch's linear map and GLU."""
    rows = []
    for count in (8192, 16384):
        leaves = [torch.randn(*shape, requires_grad=True) for shape in ((count, D_MODEL), (2 * D_MODEL, D_MODEL))]

        def train(impl: str, leaves: list[Tensor] = leaves) -> None:
            y = gated_linear(*leaves, impl=impl).y
            measure.backward(y, leaves, torch.ones_like(y))

        what = f"gated_linear forward+backward, {count} rows of {D_MODEL}"
        rows.append(measure.compare(what, partial(train, "cpu"), "F.linear + F.glu", partial(train, "reference")))
    return rows


@torch.no_grad()
def floors() -> list[measure.Row]:
    """The two convolution helpers against nothing but the library calls inside them."""
    u, (a, b, c, _) = torch.randn(8, 1024, 128), bank(128)
    kernel = vandermonde(a, b * c, 1024).kernel
    spectrum, product = torch.fft.rfft(u.mT, 2048), torch.fft.rfft(kernel, 2048)
    left, right = torch.randn(128, 32, 2 * MODES), torch.randn(128, 2 * MODES, 32)
    return [
        measure.compare(
            "long_conv, (8, 1024, 128)",
            lambda: long_conv(u, kernel),
            "its rfft, product and irfft alone",
            lambda: (torch.fft.rfft(u.mT, 2048), torch.fft.irfft(spectrum * product, 2048)),
        ),
        measure.compare(
            "vandermonde, (128 channels, 32 modes, 1024)",
            lambda: vandermonde(a, b * c, 1024),
            "its matrix product alone",
            lambda: left @ right,
        ),
        measure.compare(
            "vandermonde, (128 channels, 32 modes, 1024)",
            lambda: vandermonde(a, b * c, 1024),
            "the (dim, modes, length) tensor",
            lambda: vandermonde(a, b * c, 1024, impl="reference"),
        ),
    ]


@torch.no_grad()
def steps() -> list[measure.Row]:
    """One position at batch 1."""
    layer, x = S4D(d_model=D_MODEL), torch.randn(1, D_MODEL)
    state = layer.initial_state(1)
    cell = nn.LSTMCell(D_MODEL, D_MODEL)
    return [
        measure.compare(
            f"S4D({D_MODEL}).step, 100 positions, batch 1",
            lambda: [layer.step(x, state) for _ in range(100)],
            "nn.LSTMCell",
            lambda: [cell(x) for _ in range(100)],
        )
    ]


def peak_fma_per_ns() -> float:
    """Multiply-adds (one per float32 lane) per nanosecond that a large matrix product reaches on these threads."""
    n = 2048
    a, b = torch.randn(n, n), torch.randn(n, n)
    return n**3 / (1e6 * measure.median_ms(lambda: a @ b))


def distance_from_the_floor(rows: list[measure.Row]) -> tuple[str, ...]:
    """How the operation's time compares with that of its multiply-adds alone."""
    peak = peak_fma_per_ns()
    per_position = 2 * 2 * MODES + 17 / 2 + 4 * 2 * MODES / 16  # compress, expand; Toeplitz; advance
    notes = [
        f"A float32 matrix product (2048³) reaches {peak:.0f} multiply-adds per nanosecond here. The block form of",
        f"`diagonal_ssm` (native/diagonal_ssm.cpp) needs {per_position:.1f} of them per position and channel,",
        f"at {MODES} complex modes; the plain recurrence needs {8 * MODES}.",
        "",
    ]
    for row in rows:
        shape = row.what[row.what.index("(") :]
        batch, length, dim = (int(n) for n in shape.strip("()").split(","))
        floor = batch * length * dim * per_position / peak / 1e6
        notes.append(
            f"- {shape}: the multiply-adds alone take {floor:.2f} ms, {100 * floor / row.ours_ms:.0f} % of the time."
        )
    return tuple(notes)


# glibc gives freed memory back to the system beyond these thresholds, and both sides then wait for fresh pages.
KEPT = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}


def main() -> None:
    rows = measure.in_a_process("s4d", "layers")
    ops = measure.in_a_process("s4d", "operation")
    rows += ops + measure.in_a_process("s4d", "operation", "(freed memory kept)", **KEPT)
    for section in ("mixing", "floors", "steps"):
        rows += measure.in_a_process("s4d", section)
    notes = distance_from_the_floor([row for row in ops if "backward" not in row.what])
    print(*notes, sep="\n")
    measure.write("s4d", rows, notes)


if __name__ == "__main__":
    measure.command(main)
