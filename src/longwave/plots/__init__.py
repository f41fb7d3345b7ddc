"""Figures, as functions that return a ``matplotlib.figure.Figure`` and touch no global state."""

from longwave.plots._style import Figure
from longwave.plots.bank import kernels
from longwave.plots.confusion import confusion
from longwave.plots.curves import accuracy_over_time, learning_curves
from longwave.plots.hippo import chirp, hippo
from longwave.plots.images import examples
from longwave.plots.spectrum import eigenvalues

__all__ = [
    "Figure",
    "accuracy_over_time",
    "chirp",
    "confusion",
    "eigenvalues",
    "examples",
    "hippo",
    "kernels",
    "learning_curves",
]
