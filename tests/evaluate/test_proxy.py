from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantlab.evaluate.metrics import kl_divergence, logits_of, sqnr_db
from quantlab.evaluate.proxy import Proxy
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing.models import tiny_classifier


@pytest.mark.parametrize("softmax", [False, True])
def test_the_distance_of_two_models(tmp_path: Path, softmax: bool) -> None:
    one, two = (
        Model.load(tiny_classifier(tmp_path / f"{seed}.onnx", seed=seed, softmax=softmax))
        for seed in (0, 1)
    )
    images = np.random.default_rng(0).standard_normal((11, 3, 32, 32)).astype(np.float32)
    answers = []
    for model in (one, two):
        with Runner(model, threads=1) as run:
            answers.append(logits_of(run(images)) if softmax else run(images))
    proxy = Proxy(one, images, threads=1)
    found = proxy.distance(two)
    assert found.kl == pytest.approx(float(kl_divergence(*answers).mean()), rel=1e-4)
    assert found.sqnr_db == pytest.approx(sqnr_db(*answers), rel=1e-4)
    same = proxy.distance(one.proto())
    assert (same.kl, same.sqnr_db) == (pytest.approx(0, abs=1e-9), None)
