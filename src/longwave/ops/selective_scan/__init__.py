"""Mamba's selective scan (S6): a diagonal recurrence whose step, input and output weights depend on the input."""
