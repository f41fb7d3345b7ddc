"""State space duality: a selective recurrence with one decay a head, in chunks of matrix products. Mamba-2, Mamba-3."""
