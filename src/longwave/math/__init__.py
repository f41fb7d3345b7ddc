"""The mathematics of state space models as pure functions of tensors, in float64."""

from longwave.math.discretize import DISCRETIZATIONS, Discrete, bilinear, expm1, exprel, zoh
from longwave.math.hippo import NPLR, HiPPO, legs, legs_nplr
from longwave.math.rational import Rational, to_rational
from longwave.math.spectrum import SPECTRA, ring, s4d_inv, s4d_legs, s4d_lin, s4d_random, s4d_real
from longwave.math.statespace import Simulation, StateSpace
from longwave.math.timescale import log_uniform, softplus_inverse

__all__ = [
    "DISCRETIZATIONS",
    "NPLR",
    "SPECTRA",
    "Discrete",
    "HiPPO",
    "Rational",
    "Simulation",
    "StateSpace",
    "bilinear",
    "expm1",
    "exprel",
    "legs",
    "legs_nplr",
    "log_uniform",
    "ring",
    "s4d_inv",
    "s4d_legs",
    "s4d_lin",
    "s4d_random",
    "s4d_real",
    "softplus_inverse",
    "to_rational",
    "zoh",
]
