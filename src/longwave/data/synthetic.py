"""Tasks that are drawn, not recorded: to repeat what was seen, symbol by symbol or as a signal."""

from __future__ import annotations

import torch

from longwave.data.sequences import NO_TARGET, Sequences
from longwave.errors import ConfigError

__all__ = ["copying", "delay"]


def copying(*, samples: int, memory: int = 16, symbols: int = 8, lag: int = 64, seed: int = 0) -> Sequences:
    """Copying: some symbols, a pause, and then the symbols again, from memory.

    ::

        read     s1 … sM    blank × lag    marker × M
        answer   nothing    nothing        s1 … sM

    A sequence has 2 · memory + lag positions, each a symbol fed one-hot in symbols + 2 channels, the last two for
    blank and marker. Guessing is right once in ``symbols``. The set is drawn once and stays the same in every
    epoch: an answer follows from its question, so augmentation cannot renew them. Take many samples.

    Args:
        samples: how many sequences.
        memory: how many symbols are to be remembered.
        symbols: how many there are to choose from; each is equally likely.
        lag: length of the pause, in positions.
        seed: of ``torch.Generator``; other seeds give other samples, for a test set for example.

    Raises:
        ConfigError: a size is not positive (lag may be 0), or there are more than 254 symbols.

    Source: Arjovsky, Shah, Bengio, "Unitary evolution recurrent neural networks" (2016), section 4.1, with one marker
    for every symbol to be recalled.

    Example:
        >>> sample = copying(samples=1, memory=2, symbols=3, lag=1)
        >>> sample.x.flatten()[2:].tolist(), sample.y[0, :3].tolist()
        ([3, 4, 4], [-100, -100, -100])
    """
    if min(samples, memory, symbols) < 1 or lag < 0 or symbols > 254:
        raise ConfigError(
            "copying needs samples, memory and symbols (at most 254) of 1 or more and lag of 0 or more, got "
            f"samples={samples}, memory={memory}, symbols={symbols}, lag={lag}"
        )
    generator = torch.Generator().manual_seed(seed)
    question = torch.randint(symbols, (samples, memory), generator=generator)
    x = torch.full((samples, 2 * memory + lag), symbols, dtype=torch.uint8)
    x[:, :memory] = question
    x[:, memory + lag :] = symbols + 1
    y = torch.full(x.shape, NO_TARGET)
    y[:, memory + lag :] = question
    return Sequences(x[:, :, None], y, classes=tuple(str(i) for i in range(symbols)), one_hot=symbols + 2)


def delay(*, samples: int, length: int = 4000, lag: int = 1000, band: float = 0.1, seed: int = 0) -> Sequences:
    """Delay: a signal is read, and at every position its value ``lag`` positions earlier is wanted.

    y[t] = x[t − lag], where x is white noise limited to frequencies up to ``band``, with root mean square 0.5 in
    expectation. There is no target before position ``lag``. Always answering 0 has a root mean square error of 0.5.
    The set is drawn once and stays the same in every epoch, as in :func:`copying`.

    Args:
        samples: how many sequences.
        length: positions of a sequence.
        lag: how far back the target lies, in positions; below ``length``.
        band: the highest frequency, in cycles per position, at most 0.5.
        seed: of ``torch.Generator``; other seeds give other samples.

    Raises:
        ConfigError: a size is not positive, ``lag`` is not below ``length``, or ``band`` holds no frequency of a
            signal of this length.

    Source: Voelker, Kajić, Eliasmith, "Legendre memory units" (2019); length, lag and band as in Gu et al., "How to
    train your HiPPO" (2022).
    """
    if samples < 1 or not 0 < lag < length or not 1 / length <= band <= 0.5:
        raise ConfigError(
            "delay needs samples of 1 or more, 0 < lag < length and 1/length <= band <= 0.5, got "
            f"samples={samples}, length={length}, lag={lag}, band={band}"
        )
    generator = torch.Generator().manual_seed(seed)
    frequencies = torch.fft.rfftfreq(length)
    inside = (frequencies > 0) & (frequencies <= band) & (frequencies < 0.5)
    spectrum = torch.zeros(samples, len(frequencies), dtype=torch.complex64)
    spectrum[:, inside] = torch.randn(samples, int(inside.sum()), dtype=torch.complex64, generator=generator)
    # Every frequency stands for itself and its conjugate: the signal's mean square is 2 · Σ E|spectrum|² / length².
    x = torch.fft.irfft(spectrum, n=length) * (0.5 * length / (2 * inside.sum()).sqrt())
    y = torch.full((samples, length, 1), float("nan"))
    y[:, lag:, 0] = x[:, :-lag]
    return Sequences(x[:, :, None], y)
