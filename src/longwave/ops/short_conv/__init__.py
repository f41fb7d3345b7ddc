"""Depthwise causal convolution with a few taps, from a state to a state: what precedes the scan in the Mamba family."""
