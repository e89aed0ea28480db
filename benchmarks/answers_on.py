"""A model's answers on whatever CPU and runtime this Python has: needs numpy and the runtime alone.

    python answers_on.py onnxruntime|openvino IMAGES.npy MODEL.onnx OUT.npy [MODEL.onnx OUT.npy ...]

Images are given one by one, as the model takes them [n, ...]; what is written is its first output.
"""

import sys

import numpy as np


def by_onnxruntime(path, images):
    """One thread, all graph optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: images[i : i + 1]})[0] for i in range(len(images))]


def by_openvino(path, images):
    """One thread, fp32 parts in fp32."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(path, "CPU", hints)
    return [np.array(model(images[i : i + 1])[0]) for i in range(len(images))]


if __name__ == "__main__":
    runtime, images, *files = sys.argv[1:]
    answers = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}[runtime]
    given = np.load(images)
    for model, out in zip(files[::2], files[1::2], strict=True):
        np.save(out, np.concatenate(answers(model, given)))
