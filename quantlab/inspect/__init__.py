"""Inspect a model file: its graph, and what ONNX Runtime makes of it."""
