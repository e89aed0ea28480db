"""The client of a service: ``quantlab --server URL VERB`` does there what it does here without.

Needs ``pip install 'quantlab[client]'``.
"""
