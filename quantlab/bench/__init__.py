"""Latency and throughput, measured side by side in fresh processes."""
