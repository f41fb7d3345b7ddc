"""One position of a bank of systems with dense matrices: x' = A x + B u, y = C x' + D u."""
