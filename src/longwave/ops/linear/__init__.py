"""A linear map of many positions: torch's own, where its BLAS library does not know the processor."""
