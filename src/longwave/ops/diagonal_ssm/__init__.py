"""A bank of single-input diagonal state space models, from input to output in one pass: S4D and DSS."""
