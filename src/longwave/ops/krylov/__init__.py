"""v, v Ā, v Ā², …: rows of powers of matrices that are diagonal plus low rank. What S4 is made of."""
