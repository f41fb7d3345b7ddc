"""What a test of a sequence model needs: inputs with the awkward features, and a budget for its errors."""

from longwave.testing.budget import assert_matches, error_budget
from longwave.testing.inputs import make_inputs

__all__ = ["assert_matches", "error_budget", "make_inputs"]
