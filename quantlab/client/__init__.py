"""Client of a service: run a verb there with ``quantlab --server URL VERB``.

Needs ``pip install 'quantlab[client]'``.
"""
