"""Read ONNX files safely, without ever writing them."""
