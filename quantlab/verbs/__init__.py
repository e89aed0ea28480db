"""One function a verb, from its options to a result. The command line and the service call these.

A verb resolves names to Models, Datasets and Pipelines, runs the pure parts in order, writes its
artifacts into the Run's folder and its figures into the Run's record, and returns the result.
"""
