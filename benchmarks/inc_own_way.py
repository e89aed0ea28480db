"""Neural Compressor's search as its own MobileNet example runs it: images decoded one at a time in
every pass, batches of one, ONNX Runtime's own choice of threads.

    python benchmarks/inc_own_way.py MODEL CALIBRATION EVALUATION GOAL OUTPUT

CALIBRATION and EVALUATION are folders of labelled images; GOAL is a relative decline such as 0.01.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.data.sampler import stratified
from quantlab.model.model import Model
from quantlab.quantize.peers.child import _restore_onnx_mapping

IMAGES = 100


class Loader:
    """Batches of one image with its label, decoded as they are asked for."""

    batch_size = 1

    def __init__(self, dataset: Dataset, model: Model) -> None:
        self._dataset, self._input = dataset, model.input
        self._pipeline = get_pipeline("torchvision")

    def __iter__(self) -> Iterator[tuple[Any, int | None]]:
        for index in range(len(self._dataset)):
            sample = self._dataset[index]
            crop = self._pipeline.crop_image(sample.image)
            yield self._pipeline.to_input(crop[None], self._input), sample.label


def main() -> None:
    """Tunes and saves."""
    path, calibration, evaluation, goal, output = sys.argv[1:]
    _restore_onnx_mapping()
    from neural_compressor import PostTrainingQuantConfig, quantization
    from neural_compressor.config import AccuracyCriterion, TuningCriterion

    model = Model.load(Path(path))
    data = open_dataset(Path(calibration))
    if data.labels is None:
        sys.exit("The calibration images need labels.")
    chosen = stratified(data.labels, 1000, size=IMAGES)
    judged = Loader(open_dataset(Path(evaluation)), model)

    def top1(candidate: Any) -> float:
        session = onnxruntime.InferenceSession(
            candidate.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        right = [
            int(np.argmax(session.run(None, {name: image})[0])) == label for image, label in judged
        ]
        return float(np.mean(right))

    config = PostTrainingQuantConfig(
        quant_format="QDQ",
        calibration_sampling_size=[IMAGES],
        accuracy_criterion=AccuracyCriterion(tolerable_loss=float(goal)),
        tuning_criterion=TuningCriterion(strategy="basic"),
    )
    found = quantization.fit(
        path, config, calib_dataloader=Loader(data.subset(chosen), model), eval_func=top1
    )
    if found is None:
        sys.exit("Neural Compressor found no model.")
    found.save(output)


if __name__ == "__main__":
    main()
