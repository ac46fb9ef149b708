"""The two models: what their files say, how they are opened and run."""
