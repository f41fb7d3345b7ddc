"""What `block_scan` needs of a system that is diagonal plus low rank. What S4 is made of."""
