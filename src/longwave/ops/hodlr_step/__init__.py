"""One position of a bank of systems that share a matrix with blocks of low rank off its diagonal."""
