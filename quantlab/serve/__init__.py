"""The service: a job is a quantlab command line, run in a folder of its own, in a confined process.

Needs ``pip install 'quantlab[serve]'``; nothing here is imported before a verb of the service runs.
"""
