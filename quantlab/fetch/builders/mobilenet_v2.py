"""MobileNetV2 1.0 at 224 pixels from torchvision's weights.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018), table 2; the names
of the layers are those of torchvision's ``models/mobilenet.py``.
"""

from __future__ import annotations

import onnx

from quantlab.fetch.builders.convnet import ConvNet, State

# Expansion, output channels, blocks, stride of the first block.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_EPSILON = 1e-5
# The opset of the model zoo's file of the same name.
_OPSET = 12


def build(state: State) -> onnx.ModelProto:
    """The classifier in one graph. Raises FetchError when the weights are another model's."""
    net = ConvNet(state, epsilon=_EPSILON)
    x = net.conv("input", "features.0.0", "features.0.1", (32, 3, 3, 3), stride=2, pads=(1, 1))
    channels, number = 32, 1
    for expansion, out, blocks, first_stride in _STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            x = _inverted_residual(net, x, number, expansion, channels, out, stride)
            channels, number = out, number + 1
    x = net.conv(x, "features.18.0", "features.18.1", (1280, 320, 1, 1))
    net.classifier(x, "classifier.1", 1280, 1000)
    return net.model("mobilenet_v2", opset=_OPSET, size=224, classes=1000)


def _inverted_residual(
    net: ConvNet, x: str, number: int, expansion: int, channels: int, out: int, stride: int
) -> str:
    name, wide, y, step = f"features.{number}.conv", channels * expansion, x, 0
    if expansion != 1:
        y = net.conv(y, f"{name}.0.0", f"{name}.0.1", (wide, channels, 1, 1))
        step = 1
    y = net.conv(
        y, f"{name}.{step}.0", f"{name}.{step}.1", (wide, 1, 3, 3),
        stride=stride, pads=(1, 1), groups=wide,
    )  # fmt: skip
    y = net.conv(y, f"{name}.{step + 1}", f"{name}.{step + 2}", (out, wide, 1, 1), relu6=False)
    return net.add(x, y, f"features.{number}.add") if stride == 1 and channels == out else y
