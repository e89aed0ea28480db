"""data: images as a model takes them, written for other devices and tools."""

from __future__ import annotations

from pathlib import Path

from quantlab._util.outputs import Input, Output, check
from quantlab._util.reporter import Reporter
from quantlab.data.crops import Crops
from quantlab.data.readers import NPZ_LIST
from quantlab.data.ready import file_names, write_inputs
from quantlab.verbs import inputs
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.data import NpzOptions as NpzOptions
from quantlab.verbs.publish import Returned
from quantlab.verbs.roles import INPUTS, dataset_parts, model_parts


def write_npz(spec: NpzOptions, reporter: Reporter) -> Returned[int]:
    """Write one ``.npz`` an image, and their list, into ``spec.output``; the number of images."""
    model = inputs.find_model(spec.model, spec, reporter)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    found = inputs.find_evaluation_data(spec, model, reporter)
    crops = inputs.load_images(found, pipeline, spec, reporter)
    _check_files(spec, crops, found)
    with reporter.progress(f"Writing {spec.output}", len(crops)) as advance:
        write_inputs(crops, model.input, spec.output, lambda done, total: advance(done, ""))
    facts = {
        "model": inputs.model_facts(model),
        "data": inputs.data_facts(found, crops),
        "pipeline": pipeline.model_dump(mode="json"),
        "output": str(spec.output),
    }
    return Returned(len(crops), facts)


def _check_files(spec: NpzOptions, crops: Crops, found: LocatedDataset) -> None:
    """Raises OutputError before the first file is written, for any that may not be."""
    names = [*file_names(crops.names), NPZ_LIST]
    outputs = [Output(spec.output / name, "--output", INPUTS) for name in names]
    root = Path(found.dataset.root)
    inputs = [Input(root, "--data", dataset_parts), Input(Path(spec.model), "--model", model_parts)]
    lists = [Input(path, "--list") for path in (spec.list_file, spec.synsets) if path is not None]
    check(outputs, [*inputs, *lists], force=spec.force)
