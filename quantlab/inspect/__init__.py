"""What is in a model file, and what ONNX Runtime makes of it."""
