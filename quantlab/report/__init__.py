"""Reports: a Comparison and a Verdict as a page for people. Nothing is computed here."""
