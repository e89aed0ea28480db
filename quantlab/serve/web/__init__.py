"""The web pages: Jinja2 templates, refreshed by htmx where JavaScript runs.

``views``, ``forms`` and ``pareto`` are pure; ``router`` asks the service and renders.
"""
