"""`fer-bench`: how fast the pipeline is on this machine, and how far from what it could be."""
