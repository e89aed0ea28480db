"""Tuning: the ladder of recipes, and trying them one after the other."""
