"""History: the runs of a folder taken together. The folders are the truth, the index a shortcut."""
