"""The verbs: one function each, from options to a result, called by command line and service.

A verb resolves names to Models, Datasets and Pipelines, runs the pure parts in order, writes its
artifacts into the Run's folder and its figures into the Run's record, and returns the result.
"""
