"""Tasks that are drawn, not recorded: to repeat what was seen, to find it again, to count it."""

from __future__ import annotations

import math

import torch

from longwave.data.sequences import NO_TARGET, Sequences
from longwave.errors import ConfigError

__all__ = ["copying", "delay", "induction_heads", "parity", "selective_copying"]


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


def selective_copying(
    *, samples: int, length: int = 256, memory: int = 16, symbols: int = 14, seed: int = 0
) -> Sequences:
    """Selective copying: some symbols, scattered among blanks, and then the symbols again, in their order.

    ::

        read     blank … s1 … blank … s2 … sM … blank    marker × M
        answer   nothing                                 s1 … sM

    The gaps differ from sequence to sequence, so that no fixed delay will do: what is a symbol must be told from what
    is a blank. Otherwise as :func:`copying`; symbols, blank and marker are symbols + 2 channels.

    Args:
        samples: how many sequences.
        length: positions before the markers.
        memory: how many symbols are to be remembered, at most ``length``.
        symbols: how many there are to choose from; each is equally likely.
        seed: of ``torch.Generator``; other seeds give other samples.

    Raises:
        ConfigError: a size is not positive, ``memory`` exceeds ``length``, or there are more than 254 symbols.

    Source: Gu and Dao, "Mamba" (2023), section 4.1.1, where length is 4096 and the blank and the marker are among the
    16 symbols.
    """
    if min(samples, memory, symbols) < 1 or memory > length or symbols > 254:
        raise ConfigError(
            "selective_copying needs samples, memory and symbols (at most 254) of 1 or more and memory up to length, "
            f"got samples={samples}, length={length}, memory={memory}, symbols={symbols}"
        )
    generator = torch.Generator().manual_seed(seed)
    question = torch.randint(symbols, (samples, memory), generator=generator)
    x = torch.full((samples, length + memory), symbols, dtype=torch.uint8)
    x[:, length:] = symbols + 1
    places = torch.rand(samples, length, generator=generator).topk(memory).indices.sort(1).values
    x.scatter_(1, places, question.to(torch.uint8))
    y = torch.full(x.shape, NO_TARGET)
    y[:, length:] = question
    return Sequences(x[:, :, None], y, classes=tuple(str(i) for i in range(symbols)), one_hot=symbols + 2)


def induction_heads(
    *,
    samples: int,
    length: int = 256,
    symbols: int = 16,
    distances: str = "uniform",
    seed: int = 0,
) -> Sequences:
    """Induction heads: what followed the marker when it came before?

    ::

        read     a b c MARKER d e … f MARKER
        answer                         d

    All symbols but the last one, the marker, are drawn anew at every position. The marker comes twice: somewhere, and
    at the end. One answer for each sequence, out of symbols − 1.

    Args:
        samples: how many sequences.
        length: positions, the second marker included; 3 at least.
        symbols: how many there are, the marker included; from 2 to 256.
        distances: between the markers: all equally likely, or their logarithms, so that as many are short as long.
        seed: of ``torch.Generator``; other seeds give other samples.

    Raises:
        ConfigError: a size is out of its range, or ``distances`` is unknown.

    Source: Gu and Dao, "Mamba" (2023), section 4.1.2; training length 256, 16 symbols, tested from 64 to 2²⁰.
        Logarithmic distances are this library's.

    Example:
        >>> sample = induction_heads(samples=1, length=3, symbols=2)
        >>> sample.x.flatten().tolist(), sample.y.tolist()
        ([1, 0, 1], [0])
    """
    if samples < 1 or length < 3 or not 2 <= symbols <= 256:
        raise ConfigError(
            "induction_heads needs samples of 1 or more, length of 3 or more and symbols from 2 to 256, got "
            f"samples={samples}, length={length}, symbols={symbols}"
        )
    if distances not in ("uniform", "logarithmic"):
        raise ConfigError(f"induction_heads needs 'uniform' or 'logarithmic' distances, got distances={distances!r}")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(symbols - 1, (samples, length), generator=generator, dtype=torch.uint8)
    if distances == "uniform":
        first = torch.randint(length - 2, (samples, 1), generator=generator)
    else:
        share = torch.rand((samples, 1), generator=generator, dtype=torch.float64)
        distance = 2 * (share * math.log(length / 2)).exp()
        first = length - 1 - distance.long().clamp(max=length - 1)
    x.scatter_(1, first, symbols - 1)
    x[:, -1] = symbols - 1
    y = x.gather(1, first + 1)[:, 0]
    return Sequences(x[:, :, None], y, classes=tuple(str(i) for i in range(symbols - 1)), one_hot=symbols)


def parity(*, samples: int, length: int = 40, first: int = 0, seed: int = 0) -> Sequences:
    """Parity: is the number of ones so far odd?

    y[t] = (x[0] + … + x[t]) mod 2, from position ``first`` on. Every beginning of a sequence is a problem of its own,
    so that one set holds the lengths from 1 to ``length``; whoever guesses is right half of the time.

    Args:
        samples: how many sequences.
        length: positions of a sequence.
        first: the first position that is asked for; below ``length``. The lengths of training, to test longer ones.
        seed: of ``torch.Generator``; other seeds give other samples.

    Raises:
        ConfigError: a size is not positive, or ``first`` is no position.

    Source: the state-tracking task of Lahoti et al., "Mamba-3" (2026), which is trained on lengths up to 40 and tested
    up to 256.

    Example:
        >>> sample = parity(samples=1, length=5)
        >>> (sample.x.flatten().cumsum(0) % 2 == sample.y.flatten()).all().item()
        True
    """
    if samples < 1 or not 0 <= first < length:
        raise ConfigError(
            "parity needs samples of 1 or more and 0 <= first < length, got "
            f"samples={samples}, length={length}, first={first}"
        )
    x = torch.randint(2, (samples, length), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    y = x.long().cumsum(1) % 2
    y[:, :first] = NO_TARGET
    return Sequences(x[:, :, None], y, classes=("even", "odd"), one_hot=2)
