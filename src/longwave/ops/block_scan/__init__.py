"""A bank of single-input systems over sequences, a block of positions at a time, by tables. What S4 runs on."""
