"""Evaluation: run a model over a dataset, and compute metrics of its answers."""
