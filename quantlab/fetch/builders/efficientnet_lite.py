"""EfficientNet-lite0 at 224 pixels: EfficientNet-B0 with ReLU6 and without squeeze-excite.

Architecture: TensorFlow's ``efficientnet/lite``; the names of the layers are those of the PyTorch
package ``efficientnet_lite_pytorch``, whose convolutions pad as TensorFlow's SAME does: with
stride 2 on an even size, one row and column more at the end than at the beginning.
"""

from __future__ import annotations

import onnx

from quantlab.fetch.builders.convnet import ConvNet, Pads, State

# Blocks, kernel, stride of the first block, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_EPSILON = 1e-3
_OPSET = 13


def build(state: State) -> onnx.ModelProto:
    """The classifier in one graph. Raises FetchError when the weights are another model's."""
    net = ConvNet(state, epsilon=_EPSILON)
    x = net.conv("input", "_conv_stem", "_bn0", (32, 3, 3, 3), stride=2, pads=same_pads(3, 2))
    channels, number = 32, 0
    for blocks, kernel, first_stride, expansion, out in _STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            x = _mb_conv(net, x, number, kernel, stride, expansion, channels, out)
            channels, number = out, number + 1
    x = net.conv(x, "_conv_head", "_bn1", (1280, 320, 1, 1))
    net.classifier(x, "_fc", 1280, 1000)
    return net.model("efficientnet_lite0", opset=_OPSET, size=224, classes=1000)


def same_pads(kernel: int, stride: int) -> Pads:
    """TensorFlow's SAME padding of one direction whose size is a multiple of the stride."""
    total = max(kernel - stride, 0)
    return total // 2, total - total // 2


def _mb_conv(
    net: ConvNet, x: str, number: int, kernel: int, stride: int,
    expansion: int, channels: int, out: int,
) -> str:  # fmt: skip
    name, wide, y = f"_blocks.{number}", channels * expansion, x
    if expansion != 1:
        y = net.conv(y, f"{name}._expand_conv", f"{name}._bn0", (wide, channels, 1, 1))
    y = net.conv(
        y, f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, kernel, kernel),
        stride=stride, pads=same_pads(kernel, stride), groups=wide,
    )  # fmt: skip
    y = net.conv(y, f"{name}._project_conv", f"{name}._bn2", (out, wide, 1, 1), relu6=False)
    return net.add(x, y, f"{name}.add") if stride == 1 and channels == out else y
