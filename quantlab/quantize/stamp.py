"""Read and write quantlab's entries in the metadata of a quantized file."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from quantlab.model.large import serialized
from quantlab.model.model import Model
from quantlab.quantize.placement import PLACEMENT_KEY, read_placement
from quantlab.recipe import Recipe

SOURCE_KEY = "quantlab.fp32_sha256"
RECIPE_KEY = "quantlab.recipe"
PIPELINE_KEY = "quantlab.pipeline"
IMAGES_KEY = "quantlab.calibration_images"
_HEX = 12


def stamp(
    proto: onnx.ModelProto, model: Model, recipe: Recipe, pipeline: str, digests: Sequence[str]
) -> bytes:
    """The file's bytes. Raises QuantizeError when they are too many.

    It is the graph with its recipe, its fp32 model's sha256, its pipeline and (12
    hex digits each) the content digests of its calibration images. The same input, the same bytes.
    What was placed by times measured here is stamped as excluded: that recipe makes it anew.
    """
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    placement = read_placement(metadata)
    if recipe.placement == "measured" and placement is not None:
        exclude = (*recipe.exclude, *placement.left)
        recipe = recipe.model_copy(update={"placement": "widest", "exclude": exclude})
    proto.producer_name = "quantlab"
    proto.producer_version = ""
    del proto.metadata_props[:]
    facts = stamped(model, recipe, pipeline, digests)
    if placement is not None:
        facts[PLACEMENT_KEY] = metadata[PLACEMENT_KEY]
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=value)
    return serialized(proto, f"the int8 file of {model.path.name}")


def stamped(model: Model, recipe: Recipe, pipeline: str, digests: Sequence[str]) -> dict[str, str]:
    """What every quantized file says of how it was made."""
    return {
        IMAGES_KEY: " ".join(sorted(digest[:_HEX] for digest in digests)),
        PIPELINE_KEY: pipeline,
        RECIPE_KEY: recipe.model_dump_json(),
        SOURCE_KEY: model.sha256,
    }


def calibrated_on(metadata: dict[str, str], digests: Sequence[str]) -> int:
    """How many of these images (content digests) the quantized file was calibrated on."""
    used = set(metadata.get(IMAGES_KEY, "").split())
    return sum(digest[:_HEX] in used for digest in digests)
