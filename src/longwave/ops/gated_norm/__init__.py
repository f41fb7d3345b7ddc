"""Root-mean-square norm with a gate: what stands between Mamba-2's recurrence and its last projection."""
