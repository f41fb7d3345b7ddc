"""The mathematics of state space models as pure functions of tensors, in float64."""

from longwave.math.bases import BASES, fourier_basis, laguerre_basis, legendre_basis
from longwave.math.diagonal import Diagonal, to_diagonal
from longwave.math.discretize import (
    DENSE_DISCRETIZATIONS,
    DISCRETIZATIONS,
    DenseDiscrete,
    Discrete,
    bilinear,
    dense_gbt,
    dense_zoh,
    expm1,
    exprel,
    gbt,
    zoh,
)
from longwave.math.dplr import DiscreteDPLR, bilinear_dplr
from longwave.math.hippo import (
    MEASURES,
    NPLR,
    NPLR_FORMS,
    HiPPO,
    fourier,
    fourier_nplr,
    lagt,
    lagt_nplr,
    legs,
    legs_nplr,
    legt,
    legt_nplr,
    lmu,
)
from longwave.math.hodlr import HODLR, exchanged, hodlr
from longwave.math.rational import Rational, to_rational
from longwave.math.spectrum import SPECTRA, ring, s4d_inv, s4d_legs, s4d_lin, s4d_random, s4d_real
from longwave.math.statespace import Simulation, StateSpace
from longwave.math.timescale import log_uniform, softplus_inverse

__all__ = [
    "BASES",
    "DENSE_DISCRETIZATIONS",
    "DISCRETIZATIONS",
    "HODLR",
    "MEASURES",
    "NPLR",
    "NPLR_FORMS",
    "SPECTRA",
    "DenseDiscrete",
    "Diagonal",
    "Discrete",
    "DiscreteDPLR",
    "HiPPO",
    "Rational",
    "Simulation",
    "StateSpace",
    "bilinear",
    "bilinear_dplr",
    "dense_gbt",
    "dense_zoh",
    "exchanged",
    "expm1",
    "exprel",
    "fourier",
    "fourier_basis",
    "fourier_nplr",
    "gbt",
    "hodlr",
    "lagt",
    "lagt_nplr",
    "laguerre_basis",
    "legendre_basis",
    "legs",
    "legs_nplr",
    "legt",
    "legt_nplr",
    "lmu",
    "log_uniform",
    "ring",
    "s4d_inv",
    "s4d_legs",
    "s4d_lin",
    "s4d_random",
    "s4d_real",
    "softplus_inverse",
    "to_diagonal",
    "to_rational",
    "zoh",
]
