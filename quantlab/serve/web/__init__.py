"""The web pages: Jinja2 templates, refreshed by htmx where JavaScript runs.

``views``, ``forms`` and ``pareto`` are pure; ``routes`` ask the service and render the templates;
``router`` puts them together.
"""
