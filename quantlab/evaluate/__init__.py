"""Evaluation: a model's answers on a dataset, and metrics of them."""
