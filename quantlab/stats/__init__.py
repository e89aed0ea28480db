"""Statistics of paired answers: intervals, tests, sample sizes. Pure."""
