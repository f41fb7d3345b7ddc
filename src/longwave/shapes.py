"""The legend of axis names that shape annotations use throughout the library.

==============  ===================================================================
axis            meaning
==============  ===================================================================
``batch``       independent sequences; rows never interact
``time``        positions in a sequence, oldest first
``dim``         channels of an operation (a bank runs one system per channel)
``d_model``     width of a mixer's input and output
``modes``       state size of a diagonal system (complex modes count once per conjugate pair)
``state``       state size of a dense system, and the number of functions that it stands for
``block``       positions that a dense system takes at a time
``points``      where functions are evaluated
``width``       taps of a short convolution; ``taps`` are all but the present's
``memories``    numbers that an LMU cell writes, each to a memory of its own
``heads``       systems of a selective model that share no decay; each has ``head_dim`` channels
``groups``      groups of heads that share B and C
``rank``        columns that a head writes to its state at each position
``out``, ``in`` outputs and inputs of a multi-input system
==============  ===================================================================

Annotations are jaxtyping's: ``Float[Tensor, "batch time dim"]``; a single axis carries a leading blank. They are
documentation in use and run-time checks under pytest.
"""

from jaxtyping import Bool, Complex, Float, Inexact, Int
from torch import Tensor

__all__ = ["Bool", "Complex", "Float", "Inexact", "Int", "Tensor"]
