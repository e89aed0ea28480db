"""Names of operators that rules and graphs speak of."""

from __future__ import annotations

KEEPING = (
    "MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather",
    "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
"""What only moves or selects numbers."""
TABLE = (
    "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "MaxPool",
    "MatMul", "Reshape", "Flatten", "Transpose", "Split", "Slice", "Resize", "DepthToSpace",
)  # fmt: skip
"""What is quantized wherever all that it reads is."""
