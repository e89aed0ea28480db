"""data: images as a model takes them, written for other devices and tools."""

from __future__ import annotations

from pathlib import Path

from quantlab.data.finished import write_inputs
from quantlab.jobs import inputs
from quantlab.jobs.inputs import DataOptions, ModelOptions
from quantlab.store import Run
from quantlab.talk import Talk


class DataSpec(DataOptions, ModelOptions):
    """The options of ``quantlab data npz``."""

    model: str
    output: Path


def npz_job(spec: DataSpec, run: Run, talk: Talk) -> int:
    """Write one ``.npz`` an image, and their list, into ``spec.output``; the number of images."""
    model = inputs.find_model(spec.model, spec, talk)
    pipeline = inputs.find_pipeline(model, spec, talk)
    found = inputs.find_evaluation_data(spec, model, talk)
    crops = inputs.load_images(found, pipeline, spec, talk)
    with talk.progress(f"Writing {spec.output}", len(crops)) as advance:
        write_inputs(crops, model.input, spec.output, lambda done, total: advance(done, ""))
    run.record.results = {
        "model": inputs.model_facts(model),
        "data": inputs.data_facts(found, crops),
        "pipeline": pipeline.model_dump(mode="json"),
        "output": str(spec.output),
    }
    return len(crops)
