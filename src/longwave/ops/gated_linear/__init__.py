"""y = value ⊙ σ(gate), both linear in x: the map that mixes channels after a bank of state space models."""
