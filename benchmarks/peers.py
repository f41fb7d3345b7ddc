"""What longwave is compared with: the code that a reader of the papers, or a user of other libraries, would write."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longwave.math import NPLR_FORMS
from longwave.ops import linear


class TextbookS4D(nn.Module):
    """S4D as its paper's listing has it: an explicit (channels, modes, length) Vandermonde tensor and an FFT.

    Same parameters, output mixing and initial spectrum (S4D-Lin) as a layer of ours; zero-order hold, complex64.
    """

    def __init__(self, d_model: int, d_state: int = 64) -> None:
        super().__init__()
        modes = d_state // 2
        self.log_dt = nn.Parameter(torch.rand(d_model) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.log_neg_A_real = nn.Parameter(torch.log(0.5 * torch.ones(d_model, modes)))
        self.A_imag = nn.Parameter(math.pi * torch.arange(modes).expand(d_model, modes).clone())
        self.C = nn.Parameter(torch.randn(d_model, modes, 2) / math.sqrt(2))
        self.D = nn.Parameter(torch.randn(d_model))
        self.linear = nn.Linear(d_model, 2 * d_model)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        A = torch.complex(-self.log_neg_A_real.exp(), self.A_imag)
        dtA = A * self.log_dt.exp()[:, None]
        weights = torch.view_as_complex(self.C) * (dtA.exp() - 1) / A
        powers = torch.exp(dtA[..., None] * torch.arange(length))
        kernel = 2 * torch.einsum("hn,hnl->hl", weights, powers).real
        u = x.mT
        y = torch.fft.irfft(torch.fft.rfft(u, 2 * length) * torch.fft.rfft(kernel, 2 * length), 2 * length)
        y = (y[..., :length] + self.D[:, None] * u).mT
        return F.glu(self.linear(F.gelu(y)))


class TextbookS4(nn.Module):
    """S4 as its paper's algorithm 1 has it: four Cauchy sums by explicit (channels, nodes, modes) tensors, and FFTs.

    HiPPO-LegS, complex64, the nodes of a real inverse FFT; C̃ itself is the parameter, so no power of Ā is taken.
    `products` sums over modes by matrix products with the reciprocals, which is faster than what is usually written.
    """

    def __init__(self, d_model: int, d_state: int = 64, *, products: bool = False) -> None:
        super().__init__()
        Lambda, P, B, _ = NPLR_FORMS["legs"](d_state)
        self.products, modes = products, d_state // 2
        self.log_dt = nn.Parameter(torch.rand(d_model) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.log_neg_A_real = nn.Parameter((-Lambda.real).log().float().expand(d_model, modes).clone())
        self.A_imag = nn.Parameter(Lambda.imag.float().expand(d_model, modes).clone())
        P, B = (torch.view_as_real(x.to(torch.complex64).resolve_conj()) for x in (P[:, 0], B))
        self.P, self.B = (nn.Parameter(x.expand(d_model, modes, 2).clone()) for x in (P, B))
        self.C = nn.Parameter(torch.randn(d_model, modes, 2) / math.sqrt(2))
        self.D = nn.Parameter(torch.randn(d_model))
        self.linear = nn.Linear(d_model, 2 * d_model)

    def _cauchy(self, v: Tensor, nodes: Tensor, poles: Tensor) -> Tensor:
        if not self.products:
            v, poles = torch.cat([v, v.conj()], -1), torch.cat([poles, poles.conj()], -1)
            return (v[:, :, None] / (nodes[:, None] - poles[:, None, None])).sum(-1)
        return v @ (1 / (nodes - poles[..., None])) + v.conj() @ (1 / (nodes - poles.conj()[..., None]))

    def _kernel(self, length: int) -> Tensor:
        P, B, C = (torch.view_as_complex(x) for x in (self.P, self.B, self.C))
        dt = self.log_dt.exp()[:, None]
        poles = dt * torch.complex(-self.log_neg_A_real.exp(), self.A_imag)
        z = torch.exp(-2j * math.pi * torch.arange(length // 2) / length)
        products = torch.stack([C * B, C * P, P.conj() * B, P.conj() * P], 1) * dt[:, None]
        k00, k01, k10, k11 = self._cauchy(products, 2 * (1 - z) / (1 + z), poles).unbind(1)
        response = 2 / (1 + z) * (k00 - k01 * k10 / (1 + k11))
        last = products[:, 0].real.sum(-1, keepdim=True).to(response.dtype)  # z = −1, where the node is infinite
        return torch.fft.irfft(torch.cat([response, last], -1), length)

    def forward(self, x: Tensor) -> Tensor:
        length, u = x.shape[1], x.mT
        spectrum = torch.fft.rfft(u, 2 * length) * torch.fft.rfft(self._kernel(length), 2 * length)
        y = torch.fft.irfft(spectrum, 2 * length)[..., :length] + self.D[:, None] * u
        return F.glu(self.linear(F.gelu(y.mT)))


def s5_pytorch(d_model: int, pairs: int) -> nn.Module:
    """The layer of the s5-pytorch package, with GELU and GLU around it as in its own block."""
    from s5 import S5

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ssm, self.linear = S5(d_model, 2 * pairs), nn.Linear(d_model, 2 * d_model)

        def forward(self, x: Tensor) -> Tensor:
            return F.glu(self.linear(F.gelu(self.ssm(x))))

    return Layer()


def lstm(d_model: int) -> nn.Module:
    """torch's own LSTM of the same width, which calls a fused library kernel."""
    return nn.LSTM(d_model, d_model, batch_first=True)


def scan_loop(a: Tensor, b: Tensor) -> Tensor:
    """A linear recurrence as a Python loop over positions."""
    h, states = torch.zeros_like(b[:, 0]), []
    for a_t, b_t in zip(a.expand(b.shape).unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, 1)


def scan_doubling(a: Tensor, b: Tensor) -> Tensor:
    """A linear recurrence by doubling over the whole sequence: log₂(length) passes of plain torch."""
    a, step = a.expand(b.shape), 1
    while step < b.shape[1]:
        b = torch.cat([b[:, :step], a[:, step:] * b[:, :-step] + b[:, step:]], 1)
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], 1)
        step *= 2
    return b


def scan_s5(a: Tensor, b: Tensor) -> Tensor:
    """The associative scan of the s5-pytorch package, which takes one sequence at a time."""
    from s5.jax_compat import associative_scan

    def compose(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return second[0] * first[0], second[0] * first[1] + second[1]

    a = a.expand(b.shape)
    return torch.stack([associative_scan(compose, (a[i], b[i]))[1] for i in range(b.shape[0])])


def selective_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The selective scan as a loop over tokens, everything before it made at once, as most code has it."""
    a = torch.exp(delta[..., None] * A)
    b = (delta * u)[..., None] * B
    h, ys = torch.zeros_like(a[:, 0]), []
    for t in range(u.shape[1]):
        h = a[:, t] * h + b[:, t]
        ys.append((h @ C[:, t, 0, :, None])[..., 0])
    return torch.stack(ys, 1)


def mamba(d_model: int) -> nn.Module:
    """The Mamba layer of mambapy, by a parallel scan in plain torch."""
    from mambapy.mamba import MambaBlock, MambaConfig

    return MambaBlock(MambaConfig(d_model=d_model, n_layers=1))


def products(model: nn.Module, tokens: int, training: bool) -> Callable[[], None]:
    """The matrix products of a pass alone, by our operation: what no kernel around them could be faster than."""
    matrices = [part.weight for part in model.modules() if isinstance(part, nn.Linear)]
    inputs = {width: torch.randn(tokens, width, requires_grad=True) for width in {w.shape[1] for w in matrices}}

    def run() -> None:
        with torch.set_grad_enabled(training):
            ys = [linear(inputs[weight.shape[1]], weight).y for weight in matrices]
        if training:
            torch.autograd.grad(ys, [*inputs.values(), *matrices], ys)

    return run
