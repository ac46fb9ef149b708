"""A run's figures: their types, their file, and what follows from them."""
