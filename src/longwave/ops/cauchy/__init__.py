"""Σ v/(iω − w): the transfer functions of a bank of diagonal systems, S4's kernel."""
