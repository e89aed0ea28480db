"""Run folders: records, artifacts, and the history over them."""
