"""k[l] = Σ w a^l: the convolution kernel of a diagonal system (S4D, DSS)."""
