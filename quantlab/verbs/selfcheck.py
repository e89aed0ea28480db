"""Check a quantized file against fp32 before it is written under its name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab._util.reporter import Reporter
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.data.dataset import Dataset
from quantlab.errors import DataError, ModelError, QuantizeError
from quantlab.evaluate.fidelity import FidelityFigures, fidelity
from quantlab.evaluate.proxy import Proxy
from quantlab.inspect.counts import node_macs
from quantlab.inspect.int8_share import int8_share
from quantlab.model.kinds import RuntimeName
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.verbs.cached_results import remembered
from quantlab.verbs.inputs import DataOptions, LocatedDataset, load_images

IMAGES = 32
"""Images that check a file."""
ENOUGH = 5
"""Fewer images that did not calibrate tell too little: then images that did are taken."""
MINMAX_IMAGES = 128
"""Calibration images of the plain file, spread over all of them."""
FLOOR_DB = 10.0
"""Below this a file is called poor. Good int8 files lie between 15 and 30 dB."""
MARGIN_DB = 1.0
"""By so much a plain file must be nearer to fp32 before that is called sure: on IMAGES images, half
of it is chance."""
ADVICE = (
    "Try more calibration images, or quantlab tune; quantlab inspect --layers shows where the "
    "error arises."
)


@dataclass(frozen=True)
class Chosen:
    """The images that check; ``unseen``: none of them calibrated."""

    crops: Crops
    unseen: bool


class SelfCheck(BaseModel):
    """The result of the check. ``file``: the int8 file's answers; ``minmax``: those of a plain file
    of the same calibration images, None where none was made; ``int8_macs``: the share of
    multiply-accumulates in 8-bit integers, None where they cannot be counted."""

    model_config = ConfigDict(frozen=True)

    unseen: bool
    file: FidelityFigures
    minmax: FidelityFigures | None
    int8_macs: float | None

    @property
    def line(self) -> str:
        """The figures on one line."""
        where = "that did not calibrate" if self.unseen else "that calibrated"
        macs = "" if self.int8_macs is None else f", {self.int8_macs:.1%} of the MACs in int8"
        plain = "" if self.minmax is None else f" (plain MinMax: {_figures(self.minmax)})"
        return f"On {self.file.images} images {where}: {_figures(self.file)}{macs}{plain}."

    @property
    def problem(self) -> str:
        """What is wrong with the file, "" for nothing."""
        if self.file.unrelated:
            return f"its answers are unrelated to fp32's: {_figures(self.file, whole=True)}"
        if _db(self.file) < FLOOR_DB:
            return f"its answers are far from fp32's: {_figures(self.file, whole=True)}"
        if self.minmax is not None and _db(self.file) < _db(self.minmax) - MARGIN_DB:
            return (
                f"plain MinMax is nearer to fp32: {_figures(self.minmax)}, against "
                f"{_figures(self.file)}"
            )
        return ""


def _figures(found: FidelityFigures, *, whole: bool = False) -> str:
    if not found.finite:
        return "some of them NaN or infinite"
    varying = f" ({found.variation_db:.1f} dB of what varies from image to image)" if whole else ""
    return f"{_decibels(found.sqnr_db)}{varying}, agreement {found.agreement:.1%}"


def _decibels(sqnr: float | None) -> str:
    return "no error" if sqnr is None else f"SQNR {sqnr:.1f} dB"


def _db(found: FidelityFigures) -> float:
    return np.inf if found.variation_db is None else found.variation_db


def choose_images(
    found: LocatedDataset,
    sample: Dataset,
    images: CalibrationImages,
    recipe: Recipe,
    options: DataOptions,
    reporter: Reporter,
) -> Chosen:
    """IMAGES of the dataset that did not calibrate, seeded; where it has fewer than ENOUGH, images
    that did, and of these first such that no weight was fitted on."""
    rest = np.setdiff1d(found.dataset.opened_rows, sample.opened_rows)
    picked = np.sort(np.random.default_rng(recipe.seed).permutation(rest)[:IMAGES])
    if len(picked) >= ENOUGH:
        others = found.dataset.subset(np.searchsorted(found.dataset.opened_rows, picked))
        with suppress(DataError):
            crops = load_images(
                found.of(others),
                images.crops.pipeline,
                options.model_copy(update={"max_bad": 1.0}),
                reporter,
            )
            used = set(images.crops.digests)
            fresh = np.flatnonzero([digest not in used for digest in crops.digests])
            if len(fresh) >= ENOUGH:
                return Chosen(crops.some(fresh), unseen=True)
    fitted = _fitted_rows(recipe, images)
    ranked = sorted(_spread(len(images), len(images)), key=lambda row: row in fitted)
    free = [row for row in ranked if row not in fitted] or ranked
    rows = np.array(free, np.intp)[_spread(len(free), IMAGES)]
    return Chosen(images.crops.some(rows), unseen=False)


def _fitted_rows(recipe: Recipe, images: CalibrationImages) -> set[int]:
    """The calibration images that quantlab's engine fits weights and searches ranges on."""
    if recipe.engine != "quantlab":
        return set()
    from quantlab.quantize.engine import SOME_IMAGES
    from quantlab.quantize.engine.observe import spread_rows

    return spread_rows(len(images), SOME_IMAGES, images.spec.batch or 1)


def _spread(total: int, count: int) -> NDArray[np.intp]:
    """``count`` of ``total`` places, evenly spread, or all."""
    count = min(total, count)
    return np.arange(count, dtype=np.intp) * total // max(count, 1)


def self_check(
    model: Model,
    int8: Model,
    recipe: Recipe,
    images: CalibrationImages,
    chosen: Chosen,
    threads: int,
) -> SelfCheck:
    """Compare the int8 file's answers with fp32's, in the session that evaluations use, and with
    those of a plain MinMax file. Cached answers are not computed again. Raises ModelError when a
    model does not run, QuantizeError when int8 has other outputs than fp32."""

    def made() -> object:
        proxy = Proxy(model, chosen.crops.inputs(slice(None), model.input), threads)
        plain = _minmax(model, recipe, images)
        found = SelfCheck(
            unseen=chosen.unseen,
            file=_fidelity(proxy, int8),
            minmax=None if plain is None else _fidelity(proxy, plain),
            int8_macs=_share(int8, recipe),
        )
        return found.model_dump(mode="json")

    known = remembered("selfcheck", (model, int8), chosen.crops, slice(None), made)
    return SelfCheck.model_validate(known)


def _fidelity(proxy: Proxy, other: Model | onnx.ModelProto) -> FidelityFigures:
    answers = proxy.logits(other)
    if answers.shape != proxy.reference.shape:
        raise QuantizeError(
            f"the int8 file gives {answers.shape[1]} numbers an image, the fp32 model "
            f"{proxy.reference.shape[1]}."
        )
    return fidelity(proxy.reference, answers)


def _share(int8: Model, recipe: Recipe) -> float | None:
    """In the runtime that the file is for, which need not be the one that it is checked in."""
    runtime: RuntimeName = "openvino" if recipe.target == "openvino" else int8.runtime
    try:
        proto = int8.proto()
        return int8_share(proto.graph, node_macs(proto, int8.input), runtime=runtime).int8
    except ModelError:
        return None


def _minmax(model: Model, recipe: Recipe, images: CalibrationImages) -> onnx.ModelProto | None:
    """ONNX Runtime's plain MinMax file with the recipe's types and exclusions, of MINMAX_IMAGES of
    the same images; None where it is the recipe itself or ONNX Runtime makes none."""
    plain = Recipe(
        name="plain MinMax",
        engine="ort",
        ranges="minmax",
        activations=recipe.activations,
        weights=recipe.weights,
        per_channel=recipe.per_channel,
        reduce_range=recipe.reduce_range,
        fp32_output=recipe.fp32_output,
        exclude=recipe.exclude,
    )
    if (recipe.engine, recipe.ranges) == (plain.engine, plain.ranges):
        return None
    some = images.crops.some(_spread(len(images), MINMAX_IMAGES))
    try:
        return get_engine("ort").quantize(model, plain, CalibrationImages(some, images.spec))
    except (QuantizeError, ModelError):
        return None
