"""Jobs: one function a verb, from a Spec to a result. The command line and the service call these.

A job resolves names to Models, Datasets and Pipelines, runs the pure parts in order, writes its
artifacts into the Run's folder and its figures into the Run's record, and returns the result.
"""
