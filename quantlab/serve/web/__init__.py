"""The pages: Jinja2 templates over the service's nouns, made livelier by htmx where it runs.

``views``, ``forms`` and ``pareto`` are pure; ``router`` asks the service and renders.
"""
