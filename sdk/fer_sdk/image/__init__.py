"""Pictures: how they are read, and how faces are cut out of them."""
