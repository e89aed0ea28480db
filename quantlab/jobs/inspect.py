"""inspect: what is in a model."""

from __future__ import annotations

from pydantic import BaseModel

from quantlab.inspect import Inspection, inspect_model
from quantlab.jobs.inputs import ModelOptions, find_model
from quantlab.model import Layout
from quantlab.store import Run, write_whole
from quantlab.talk import Talk


class InspectSpec(BaseModel):
    """The options of ``quantlab inspect``."""

    model: str
    layout: Layout | None = None


def inspect_job(spec: InspectSpec, run: Run, talk: Talk) -> Inspection:
    """The model's Inspection, whole in the run folder."""
    model = find_model(spec.model, ModelOptions(layout=spec.layout), talk)
    inspection = inspect_model(model)
    model.check_unchanged()
    text = inspection.model_dump_json(indent=1)
    write_whole(run.artifact("inspection", "inspection.json"), text + "\n")
    run.record.results = inspection.model_dump(
        mode="json", exclude={"kernels", "quantized_tensors"}
    )
    return inspection
