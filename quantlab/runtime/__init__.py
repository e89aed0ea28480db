"""ONNX Runtime sessions, and facts of the machine they run on."""
