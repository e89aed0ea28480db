"""Made-up predictions for tests: no model, no image, no file."""

from __future__ import annotations

import hashlib

import numpy as np

from quantlab.evaluate.predictions import Predictions


def fake_predictions(
    n: int,
    classes: int,
    flip_rate: float,
    seed: int,
    labelled: bool = True,
    *,
    accuracy: float = 0.8,
    name: str = "",
) -> Predictions:
    """Logits of a model that is right about ``accuracy`` of the time on ``n`` made-up images.

    ``flip_rate`` is the share of images whose first answer is exchanged for another class, as
    quantization would: wrong answers five times as often as right ones, half of them into the right
    one. Two calls that differ only in ``flip_rate`` are an fp32 model and its int8 version on the
    same images.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    answers = np.where(rng.random(n) < accuracy, labels, rng.integers(classes, size=n))
    outputs = rng.normal(0, 1, (n, classes)).astype(np.float32)
    rows = np.arange(n)
    outputs[rows, answers] = outputs.max(axis=1) + rng.exponential(6, n).astype(np.float32) + 0.1
    if flip_rate:
        outputs += rng.normal(0, 0.02, outputs.shape).astype(np.float32)
        wrong = answers != labels
        flipped = rows[rng.random(n) < flip_rate * np.where(wrong, 2.8, 0.55)]
        others = (answers[flipped] + rng.integers(1, classes, size=len(flipped))) % classes
        others = np.where(
            wrong[flipped] & (rng.random(len(flipped)) < 0.5), labels[flipped], others
        )
        outputs[flipped, others] = outputs[flipped].max(axis=1) + np.float32(0.3)
    name = name or ("fake-int8" if flip_rate else "fake-fp32")
    return Predictions(
        names=tuple(f"{i:05d}.png" for i in rows),
        digests=tuple(_sha256(f"image {seed} {i}") for i in rows),
        labels=labels if labelled else None,
        outputs=outputs,
        output_kind="logits",
        model_sha256=_sha256(f"{name} {seed} {flip_rate}"),
        model_name=name,
        dataset_digest=_sha256(f"data {seed} {n}"),
        pipeline={"name": "fake", "version": 1},
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
