"""Reports: format a Comparison and a Verdict as pages. Nothing is computed here."""
