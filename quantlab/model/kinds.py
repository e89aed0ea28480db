"""How a model takes images and what it gives: the values that are detected, or named by options."""

from __future__ import annotations

from typing import Literal

Layout = Literal["NCHW", "NHWC"]
OutputKind = Literal["logits", "probabilities"]
