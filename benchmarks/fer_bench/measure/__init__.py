"""Timing the pipeline, its stages, its models and the baselines, in rounds that take turns."""
