"""The verbs: one module each, from options to a result.

A verb's ``…_job`` resolves names to Models, Datasets and Pipelines and calls the function that the
library calls too, with these. Both return a value; ``publish`` makes run folder, record and report
of it.
"""
