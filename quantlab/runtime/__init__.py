"""ONNX Runtime sessions, and the facts of the machine they run on."""
