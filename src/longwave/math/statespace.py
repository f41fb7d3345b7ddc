"""A discrete linear system as dense float64 matrices: the form in which every LTI model can be checked."""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch

from longwave.errors import ConfigError, MissingExtraError, ShapeError, UnsupportedError
from longwave.shapes import Complex, Float, Tensor


class Simulation(NamedTuple):
    """The outputs of a system, and its state after the last input."""

    y: Float[Tensor, "*batch time out"]
    final_state: Float[Tensor, "*batch state"]


@final
@dataclass(frozen=True, eq=False)
class StateSpace:
    """The discrete-time linear system x[t] = A x[t−1] + B u[t],  y[t] = C x[t] + D u[t].

    The output reads the state that the input has just updated, as everywhere in this library. The initial state is
    x before the first input. Leading axes (``channels``) hold independent systems of the same size, such as the
    channels of a bank: B is then (dim, state, 1), C (dim, 1, state), and so on.

    Args:
        A: state to state.
        B: input to state.
        C: state to output.
        D: input to output.

    Raises:
        ShapeError: the matrices do not fit one another, or are not float64.

    Not to be confused with `scipy.signal.StateSpace`, whose output reads the state before the update (`to_scipy`).

    Example:
        >>> average = StateSpace(*(torch.tensor([[x]], dtype=torch.float64) for x in (0.5, 0.5, 1.0, 0.0)))
        >>> average.impulse_response(4)
        tensor([[[0.5000, 0.2500, 0.1250, 0.0625]]], dtype=torch.float64)
    """

    A: Float[Tensor, "*channels state state"]
    B: Float[Tensor, "*channels state in"]
    C: Float[Tensor, "*channels out state"]
    D: Float[Tensor, "*channels out in"]

    def __post_init__(self) -> None:
        matrices = {"A": self.A, "B": self.B, "C": self.C, "D": self.D}
        for name, matrix in matrices.items():
            if matrix.dtype != torch.float64:
                raise ShapeError(f"StateSpace: {name} is {matrix.dtype}; give float64 matrices, {name}.double()")
        *channels, outputs, inputs = self.D.shape if self.D.ndim >= 2 else (0, 0)
        state = self.A.shape[-1] if self.A.ndim else 0
        expected = {"A": (state, state), "B": (state, inputs), "C": (outputs, state), "D": (outputs, inputs)}
        if any(matrix.shape != (*channels, *expected[name]) for name, matrix in matrices.items()):
            given = ", ".join(f"{name} {tuple(matrix.shape)}" for name, matrix in matrices.items())
            raise ShapeError(
                f"StateSpace: {given} do not fit; give A (…, state, state), B (…, state, in), C (…, out, state) and "
                "D (…, out, in) with the same leading axes"
            )

    @classmethod
    def from_diagonal(
        cls,
        a: Complex[Tensor, "*channels modes"],
        b: Complex[Tensor, "*channels modes in"],
        c: Complex[Tensor, "*channels out modes"],
        D: Float[Tensor, "*channels out in"],
        *,
        conjugate_pairs: bool,
    ) -> "StateSpace":
        """The real form of the complex diagonal system x[t] = a x[t−1] + b u[t],  y[t] = s Re(c x[t]) + D u[t].

        A complex mode becomes two real states, Re x and Im x, next to each other, which a turns and scales by the
        block [[Re a, −Im a], [Im a, Re a]].

        Args:
            a: discrete eigenvalues.
            b: input weights.
            c: output weights.
            D: input to output, real.
            conjugate_pairs: True if each mode stands for itself and its conjugate, s = 2 (S4D); False if it stands
                for itself, s = 1 (LRU).

        Returns:
            The system with 2·modes real states, computed in float64.

        Raises:
            ShapeError: the arguments do not fit one another.
        """
        if b.shape[:-1] != a.shape or (*c.shape[:-2], c.shape[-1]) != a.shape:
            raise ShapeError(
                f"from_diagonal: a {tuple(a.shape)}, b {tuple(b.shape)}, c {tuple(c.shape)} do not fit; "
                "give a (…, modes), b (…, modes, in) and c (…, out, modes) with the same leading axes"
            )
        a, b, c = (x.to(torch.complex128) for x in (a, b, c))
        modes = a.shape[-1]
        blocks = torch.stack([torch.view_as_real(a), torch.view_as_real(1j * a)], -1)
        A = torch.einsum("...mij,mn->...minj", blocks, torch.eye(modes, dtype=blocks.dtype, device=a.device))
        B = torch.view_as_real(b).transpose(-1, -2).flatten(-3, -2)
        C = torch.view_as_real(c.conj().resolve_conj()).flatten(-2) * (2 if conjugate_pairs else 1)
        return cls(A.flatten(-2).flatten(-3, -2), B, C, D.double())

    def simulate(
        self, u: Float[Tensor, "*#batch time in"], initial_state: Float[Tensor, "*#batch state"] | None = None
    ) -> Simulation:
        """The outputs for a sequence of inputs, by the recurrence itself.

        Args:
            u: inputs, oldest first; leading axes broadcast against the system's ``channels``. For a bank and a
                signal (batch, time, dim) give ``signal.transpose(1, 2)[..., None]``.
            initial_state: x before the first input; None is zero.

        Returns:
            Simulation(y, final_state).

        Raises:
            ShapeError: u or initial_state does not fit the system.

        Numerics: float64, one matrix-vector product per position.
        """
        state = self.A.shape[-1]
        x = self.A.new_zeros(state) if initial_state is None else initial_state.double()
        leading = self._leading_axes(u, x)
        u, x = u.double(), x.expand(*leading, state)
        driven = (u @ self.B.mT).expand(*leading, -1, -1)
        states = []
        for Bu in driven.unbind(-2):
            x = (self.A @ x[..., None])[..., 0] + Bu
            states.append(x)
        trajectory = torch.stack(states, -2) if states else driven
        return Simulation(trajectory @ self.C.mT + u @ self.D.mT, x)

    def impulse_response(self, length: int) -> Float[Tensor, "*channels out in time"]:
        """The kernel k of y = k ∗ u:  k[0] = C B + D,  k[l] = C A^l B.

        Args:
            length: number of positions.

        Returns:
            k, (…, out, in, length).
        """
        inputs, channels = self.D.shape[-1], self.D.shape[:-2]
        first = torch.arange(length, device=self.D.device) == 0
        impulses = torch.eye(inputs, dtype=self.D.dtype, device=self.D.device)[:, None] * first[:, None]
        y = self.simulate(impulses.reshape(inputs, *(1 for _ in channels), length, inputs)).y
        return y.movedim(0, -1).movedim(-3, -1)

    def transfer_function(self, z: Complex[Tensor, " points"]) -> Complex[Tensor, "*channels out in points"]:
        """The z-transform of the impulse response, H(z) = C (I − A z⁻¹)⁻¹ B + D = C (zI − A)⁻¹ zB + D.

        Args:
            z: points of the complex plane; e^{iω} for the frequency response at ω radians per position.

        Returns:
            H, (…, out, in, points).

        Raises:
            torch.linalg.LinAlgError: a point is a pole.

        Not to be confused with C (zI − A)⁻¹ B + D, in which the output reads the state before the update.
        """
        z = z.to(torch.complex128)[:, None, None]
        A, B, C, D = (M.to(torch.complex128).unsqueeze(-3) for M in (self.A, self.B, self.C, self.D))
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return (C @ torch.linalg.solve(z * identity - A, z * B) + D).movedim(-3, -1)

    def poles(self) -> Complex[Tensor, "*channels state"]:
        """The eigenvalues of A; the system is stable if all lie inside the unit circle."""
        return torch.linalg.eigvals(self.A)

    def to_scipy(self, index: int | tuple[int, ...] | None = None) -> Any:
        """One system as a `scipy.signal.dlti`:  x[k+1] = A x[k] + B u[k],  y[k] = C A x[k] + (C B + D) u[k].

        SciPy's x[k] is this library's x[k−1], the state before input k, so the initial states are equal.

        Args:
            index: which of the leading axes' systems; None if there are none.

        Returns:
            scipy.signal.dlti with dt = 1.

        Raises:
            ConfigError: index does not pick out one system.
            MissingExtraError: SciPy is not installed.
        """
        channels, at = self.A.shape[:-2], () if index is None else (index if isinstance(index, tuple) else (index,))
        if len(at) != len(channels) or not all(-n <= i < n for i, n in zip(at, channels, strict=True)):
            raise ConfigError(f"to_scipy: index {index} does not pick one system out of leading axes {tuple(channels)}")
        A, B, C, D = (M[at].detach().cpu() for M in (self.A, self.B, self.C, self.D))
        return _scipy_signal().dlti(A.numpy(), B.numpy(), (C @ A).numpy(), (C @ B + D).numpy(), dt=1)

    @classmethod
    def from_scipy(cls, system: Any) -> "StateSpace":
        """A `scipy.signal.dlti` with the same outputs for the same inputs.

        SciPy's y[k] = C s[k] + D u[k] reads the state before the update, s[k+1] = A s[k] + B u[k]. When this library's
        output is read that state is gone, so C s[k] is kept beside s[k+1]: x[k] = (s[k+1], C s[k]) obeys
        x[k] = [[A, 0], [C, 0]] x[k−1] + [B; 0] u[k],  y[k] = [0, I] x[k] + D u[k], exactly and for every A.

        Args:
            system: any real discrete-time scipy.signal.dlti: state space, transfer function or zeros and poles.

        Returns:
            The system with as many further states, and poles at zero, as there are outputs. From the initial state
            s[0] of SciPy's it starts at (s[0], anything).

        Raises:
            UnsupportedError: the system is continuous-time or complex.
            MissingExtraError: SciPy is not installed.
        """
        if not isinstance(system, _scipy_signal().dlti):
            raise UnsupportedError(f"from_scipy: {type(system).__name__} is no scipy.signal.dlti; discretise it first")
        ss = system.to_ss()
        matrices = [torch.as_tensor(M) for M in (ss.A, ss.B, ss.C, ss.D)]
        if any(M.is_complex() for M in matrices):
            raise UnsupportedError("from_scipy: the system's matrices are complex; use StateSpace.from_diagonal")
        A, B, C, D = (M.double() for M in matrices)
        (outputs, state), inputs = C.shape, B.shape[-1]
        lag = torch.zeros(state + outputs, outputs, dtype=torch.float64)
        return cls(
            torch.cat([torch.cat([A, C]), lag], 1),
            torch.cat([B, B.new_zeros(outputs, inputs)]),
            torch.cat([torch.zeros_like(C), torch.eye(outputs, dtype=torch.float64)], 1),
            D,
        )

    def _leading_axes(self, u: Tensor, x: Tensor) -> torch.Size:
        """What the leading axes of inputs u, state x and the system itself broadcast to."""
        (state, inputs), channels = self.B.shape[-2:], self.B.shape[:-2]
        if u.ndim < 2 or u.shape[-1] != inputs:
            raise ShapeError(f"simulate: u is {tuple(u.shape)}; this system wants (…, time, {inputs})")
        if x.shape[-1:] != (state,):
            raise ShapeError(f"simulate: initial_state is {tuple(x.shape)}; this system wants (…, {state})")
        try:
            return torch.broadcast_shapes(u.shape[:-2], x.shape[:-1], channels)
        except RuntimeError as error:
            raise ShapeError(
                f"simulate: the leading axes of u, {tuple(u.shape)}, of the state, {tuple(x.shape)}, and of the "
                f"system, {tuple(channels)}, do not broadcast; for a bank give u as (batch, dim, time, in)"
            ) from error


def _scipy_signal() -> Any:
    """SciPy's signal module, which only the conversions need."""
    try:
        from scipy import signal
    except ImportError as error:
        raise MissingExtraError("SciPy is not installed: pip install 'longwave[dev]' or pip install scipy") from error
    return signal
