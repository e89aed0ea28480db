"""Compare two models' predictions and latencies. Pure."""
