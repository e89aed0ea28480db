"""The options of each verb: one model a verb, from which all that offers its options is derived.

These modules import nothing heavy: ``--help`` reads them. ``option.py`` says what a declaration
holds.
"""
