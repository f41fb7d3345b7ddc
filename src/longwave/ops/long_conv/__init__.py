"""y = k * u: causal convolution with a kernel as long as the sequence."""
