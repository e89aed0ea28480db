"""ONNX files: read safely, looked at, never written."""
