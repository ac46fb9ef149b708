"""What the figures were measured on, what it can do at most, and what else it was doing."""
