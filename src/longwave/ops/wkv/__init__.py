"""A mean with decaying exponential weights: the attention of RWKV version 4."""
