"""Every family of classifiers in timm and torchvision is quantized, from both exporters of PyTorch.

The models are small, of images of few pixels, with random weights whose statistics three batches
have set. What is asserted: no error, all products with weights in int8, answers as near to fp32's
as a plain MinMax file's, or near. ``--every-family`` takes an hour; else a few are tested.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from quantlab.inspect.counts import node_macs
from quantlab.inspect.int8_share import int8_share
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

pytestmark = [pytest.mark.families, pytest.mark.filterwarnings("ignore")]
CLASSES = 10
IMAGES = 16
NEAR_DB, MARGIN_DB = 20.0, 1.0
"""The answers are near from here on; else no further from fp32 than plain MinMax by more."""
QUICK = Recipe(ranges="minmax", range_search=False, rounding="nearest", placement="widest")
PLAIN = Recipe(
    engine="ort", ranges="minmax", equalize=False, bias_correction=False, range_search=False,
    rounding="nearest",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A model that stands for its family, for images of ``size`` pixels a side."""

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    size: int = 64


SIDE = {"img_size": 64}
BLOCKS, LAYERS = {"depths": (1, 1, 1, 1)}, {"layers": (1, 1, 1, 1)}
SHALLOW = {"depth": 2}
NARROW = {"depth": 2, "embed_dim": 192, "num_heads": 3}


# fmt: off
TIMM = {
    "beit": Family("beit_base_patch16_224", SIDE | NARROW),
    "byoanet": Family("eca_botnext26ts_256", SIDE),
    "byobnet": Family("mobileone_s1", SIDE),
    "cait": Family("cait_xxs24_224", SIDE | SHALLOW),
    "coat": Family("coat_lite_tiny", SIDE),
    "convit": Family("convit_tiny", SIDE | SHALLOW),
    "convmixer": Family("ConvMixer", {"dim": 64, "depth": 3, "patch_size": 7, "kernel_size": 7}),
    "convnext": Family("test_convnext", BLOCKS),
    "cpubone": Family("cpubone_nano"),
    "crossvit": Family("crossvit_tiny_240"),
    "csatv2": Family("csatv2"),
    "cspnet": Family("cs3darknet_focus_s"),
    "cspnext": Family("cspnext_tiny", BLOCKS),
    "davit": Family("davit_tiny", BLOCKS),
    "deepseek_vit": Family("deepseek_vit_412m", NARROW, size=70),
    "deit": Family("deit_tiny_patch16_224", SIDE | SHALLOW),
    "densenet": Family("densenet121"),
    "dla": Family("dla46x_c"),
    "dpn": Family("dpn48b"),
    "edgenext": Family("edgenext_xx_small", BLOCKS),
    "efficientformer": Family("efficientformer_l1", BLOCKS | {"img_size": 224}, size=224),
    "efficientformer_v2": Family("efficientformerv2_s0", SIDE | BLOCKS),
    "efficientnet": Family("efficientnet_lite0"),
    "efficientvim": Family("efficientvim_m1", {"depths": (1, 1, 1)}),
    "efficientvit_mit": Family("efficientvit_b0", BLOCKS),
    "efficientvit_msra": Family("efficientvit_m0", SIDE),
    "eva": Family("eva02_tiny_patch14_224", SIDE | SHALLOW),
    "fasternet": Family("fasternet_t0", BLOCKS),
    "fastvit": Family("fastvit_t8", LAYERS),
    "focalnet": Family("focalnet_tiny_srf"),
    "gcvit": Family("gcvit_xxtiny", SIDE),
    "gemma4_vit": Family("gemma4_vit_167m", NARROW),
    "ghostnet": Family("ghostnet_050"),
    "hardcorenas": Family("hardcorenas_b"),
    "hgnet": Family("hgnetv2_b0"),
    "hiera": Family("hiera_tiny_224", SIDE | {"stages": (1, 1, 1, 1)}),
    "hieradet_sam2": Family(
        "sam2_hiera_tiny", {"stages": (1, 1, 2, 1), "global_att_blocks": (3,)}, size=128
    ),
    "hrnet": Family("hrnet_w18_small"),
    "iformer": Family("iformer_t"),
    "inception_next": Family("inception_next_atto", BLOCKS),
    "inception_resnet_v2": Family("inception_resnet_v2", size=96),
    "inception_v3": Family("inception_v3", size=96),
    "inception_v4": Family("inception_v4", size=96),
    "lcnetv2": Family("lcnetv2_small", BLOCKS),
    "levit": Family("levit_128s", SIDE),
    "lowformer": Family("lowformer_b0"),
    "mambaout": Family("test_mambaout", BLOCKS),
    "maxxvit": Family("maxvit_pico_rw_256", SIDE | BLOCKS),
    "metaformer": Family("poolformerv2_s12"),
    "mlp_mixer": Family("gmlp_ti16_224", SIDE),
    "mobilenetv3": Family("mobilenetv3_small_050"),
    "mobilenetv5": Family("mobilenetv5_base", {"channel_multiplier": 0.25}),
    "mobilevit": Family("mobilevit_xxs", SIDE),
    "mvitv2": Family("mvitv2_tiny", SIDE),
    "naflexvit": Family("naflexvit_base_patch16_gap", NARROW),
    "nasnet": Family("nasnetalarge", {"num_features": 672, "stem_size": 32}, size=96),
    "nest": Family("nest_tiny", SIDE),
    "nextvit": Family("nextvit_small"),
    "nfnet": Family("test_nfnet", BLOCKS),
    "pit": Family("pit_ti_224", SIDE),
    "pnasnet": Family("pnasnet5large"),
    "pvt_v2": Family("pvt_v2_b0", BLOCKS),
    "qwen3_vit": Family("qwen3_vit_88m", NARROW),
    "rdnet": Family("rdnet_tiny"),
    "regnet": Family("regnetx_002"),
    "repghost": Family("repghostnet_050"),
    "repvit": Family("repvit_m1", SIDE),
    "res2net": Family("res2next50", LAYERS),
    "resnest": Family("resnest14d", LAYERS),
    "resnet": Family("resnet10t", LAYERS),
    "resnetv2": Family("resnetv2_18", LAYERS),
    "rexnet": Family("rexnet_100"),
    "selecsls": Family("selecsls42"),
    "senet": Family("legacy_seresnet18", LAYERS),
    "sequencer": Family("sequencer2d_s", LAYERS),
    "shvit": Family("shvit_s1"),
    "sknet": Family("skresnet18", LAYERS),
    "starnet": Family("starnet_s050", BLOCKS),
    "swiftformer": Family("swiftformer_xs", LAYERS),
    "swin_transformer": Family("swin_tiny_patch4_window7_224", SIDE | BLOCKS),
    "swin_transformer_v2": Family("swinv2_tiny_window16_256", SIDE | BLOCKS),
    "swin_transformer_v2_cr": Family("swinv2_cr_tiny_224", SIDE | BLOCKS),
    "tiny_vit": Family("tiny_vit_5m_224", BLOCKS),
    "tnt": Family("tnt_s_legacy_patch16_224", SIDE | SHALLOW),
    "tresnet": Family("tresnet_m", LAYERS),
    "twins": Family("twins_svt_small", SIDE | BLOCKS),
    "vgg": Family("vgg11_bn", size=224),
    "visformer": Family("visformer_tiny", SIDE | SHALLOW),
    "vision_transformer": Family("test_vit", SIDE | SHALLOW),
    "vision_transformer_hybrid": Family("vit_tiny_r_s16_p8_224", SIDE | SHALLOW),
    "vision_transformer_relpos": Family("test_vit_relpos", SIDE | SHALLOW),
    "vision_transformer_sam": Family("samvit_base_patch16_224", SIDE | NARROW),
    "vitamin": Family("vitamin_small_224", SIDE | SHALLOW),
    "volo": Family("volo_d1_224", SIDE),
    "vovnet": Family("ese_vovnet19b_slim_dw"),
    "xception": Family("legacy_xception"),
    "xception_aligned": Family("xception41p"),
    "xcit": Family("xcit_nano_12_p8_224", SIDE | SHALLOW),
}
TORCHVISION = {
    "alexnet": Family("alexnet", size=224),
    "convnext_tiny": Family("convnext_tiny"),
    "densenet121": Family("densenet121"),
    "efficientnet_b0": Family("efficientnet_b0"),
    "efficientnet_v2_s": Family("efficientnet_v2_s"),
    "googlenet": Family("googlenet", {"init_weights": False, "aux_logits": False}),
    "inception_v3": Family("inception_v3", {"init_weights": False, "aux_logits": False}, size=96),
    "maxvit_t": Family("maxvit_t", size=224),
    "mnasnet0_5": Family("mnasnet0_5"),
    "mobilenet_v2": Family("mobilenet_v2"),
    "mobilenet_v3_small": Family("mobilenet_v3_small"),
    "regnet_x_400mf": Family("regnet_x_400mf"),
    "regnet_y_400mf": Family("regnet_y_400mf"),
    "resnet18": Family("resnet18"),
    "resnext50_32x4d": Family("resnext50_32x4d"),
    "shufflenet_v2_x0_5": Family("shufflenet_v2_x0_5"),
    "squeezenet1_1": Family("squeezenet1_1"),
    "swin_t": Family("swin_t"),
    "swin_v2_t": Family("swin_v2_t"),
    "vgg11_bn": Family("vgg11_bn", size=224),
    "vit_b_32": Family("vit_b_32", {"image_size": 64}),
    "wide_resnet50_2": Family("wide_resnet50_2"),
}
# fmt: on
NOT_SCRIPTED = {
    "csatv2",
    "eva",
    "gemma4_vit",
    "naflexvit",
    "volo",
    "deepseek_vit",
}  # fmt: skip
"""What the exporter by TorchScript does not know an operator of, at opset 17."""


SOME = {
    ("byobnet", "dynamo"), ("convnext", "TorchScript"), ("efficientvit_msra", "dynamo"),
    ("lcnetv2", "TorchScript"), ("levit", "TorchScript"), ("mobilenetv3", "dynamo"),
    ("mobilevit", "TorchScript"), ("nfnet", "TorchScript"), ("resnet18", "TorchScript"),
    ("shufflenet_v2_x0_5", "TorchScript"), ("squeezenet1_1", "dynamo"), ("starnet", "TorchScript"),
    ("swin_transformer", "TorchScript"), ("vision_transformer", "dynamo"),
}  # fmt: skip
"""Families that differ in their operators, small ones: what is tested unless every family is."""


def exported(names: Iterable[str]) -> list[Any]:
    """Each family with each exporter, marked unless it is one of SOME."""
    every = product(names, ("TorchScript", "dynamo"))
    mark = pytest.mark.every_family
    return [
        pytest.param(*each, marks=() if each in SOME else mark, id="-".join(each)) for each in every
    ]


_KEPT: list[object] = []
"""PyTorch forgets operators with the object that declared them."""


class Noise:
    """Images of large and small patches, ``seed`` for each set."""

    def __init__(self, size: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (IMAGES, 3, size, size)
        coarse = rng.standard_normal((IMAGES, 3, 8, 8)).repeat(-(-size // 8), 2)
        coarse = coarse.repeat(-(-size // 8), 3)[:, :, :size, :size]
        strength = rng.uniform(0.3, 1.5, (IMAGES, 1, 1, 1))
        self.array = (coarse * strength + 0.5 * rng.standard_normal(shape)).astype(np.float32)

    def __len__(self) -> int:
        return IMAGES

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        yield from np.split(self.array, 2)


@pytest.fixture(scope="module")
def libraries() -> dict[str, Any]:
    """torch, torchvision and timm."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)  # others use the other cores
    try:
        torchvision = importlib.import_module("torchvision")
    except RuntimeError:  # its compiled operators are for another build; no classifier has one
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float limit) -> Tensor")
        torchvision = importlib.import_module("torchvision")
        _KEPT.append(operators)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    return {"torch": torch, "torchvision": torchvision, "timm": importlib.import_module("timm")}


def sqnr(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    error = float(np.square(expected - found).sum())
    return float(10 * np.log10(float(np.square(expected).sum()) / max(error, 1e-30)))


def export(torch: Any, build: Callable[[], Any], size: int, exporter: str, path: Path) -> Path:
    """Writes the network, with the statistics of a few batches in its normalizations."""
    torch.manual_seed(0)
    network = build()
    images = torch.from_numpy(Noise(size, 0).array[:8])
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(images)
        for weight in network.parameters():  # a scale that begins as zero makes its branch dead
            if weight.ndim <= 1 and weight.numel() > 1 and float(weight.abs().max()) < 1e-4:
                weight.normal_(0, 0.1)
    network.eval()
    names = {"input_names": ["input"], "output_names": ["output"]}
    if exporter == "TorchScript":
        axes = {"input": {0: "N"}, "output": {0: "N"}}
        torch.onnx.export(
            network, images[:2], str(path), dynamo=False, opset_version=17, dynamic_axes=axes,
            **names,
        )  # fmt: skip
    else:
        shapes = ({0: torch.export.Dim("N", min=1, max=64)},)

        def write(**more: bool) -> None:
            torch.onnx.export(
                network, (images[:2],), str(path), dynamo=True, dynamic_shapes=shapes,
                verbose=False, external_data=False, **names, **more,
            )  # fmt: skip

        try:
            write()
            if not is_valid(path):  # its optimizer loses the bounds of merged Clips (gemma4_vit)
                write(optimize=False)
        except torch.onnx.errors.OnnxExporterError as error:
            pytest.skip(f"PyTorch does not export it: {type(error.__cause__ or error).__name__}")
    return path


def is_valid(path: Path) -> bool:
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError:
        return False
    return True


def check(path: Path, size: int) -> None:
    model = Model.load(path)
    calibration, images = Noise(size, 1), Noise(size, 2).array
    int8 = get_engine("quantlab").quantize(model, QUICK, calibration)
    macs = int8_share(int8.graph, node_macs(int8, model.input))
    of_weights = [x for x in macs.fp32 if x.share > 0 and x.op_type != "MatMul"]
    assert not of_weights
    assert macs.int8 > 0.6
    with Runner(model) as fp32, Runner(int8) as quantized:
        expected, found = fp32(images), quantized(images)
    assert np.isfinite(found).all()
    if (ours := sqnr(expected, found)) < NEAR_DB:
        with Runner(get_engine("ort").quantize(model, PLAIN, calibration)) as plain:
            assert ours > sqnr(expected, plain(images)) - MARGIN_DB


@pytest.mark.parametrize(("name", "exporter"), exported(TIMM))
def test_timm(name: str, exporter: str, libraries: dict[str, Any], tmp_path: Path) -> None:
    if exporter == "TorchScript" and name in NOT_SCRIPTED:
        pytest.skip("PyTorch's exporter by TorchScript does not know an operator of it")
    family = TIMM[name]

    def build() -> Any:
        timm = libraries["timm"]
        if family.model == "ConvMixer":  # its names have 32 blocks
            return timm.models.ConvMixer(num_classes=CLASSES, **family.arguments)
        return timm.create_model(family.model, num_classes=CLASSES, **family.arguments)

    path = export(libraries["torch"], build, family.size, exporter, tmp_path / "m.onnx")
    check(path, family.size)


@pytest.mark.parametrize(("name", "exporter"), exported(TORCHVISION))
def test_torchvision(name: str, exporter: str, libraries: dict[str, Any], tmp_path: Path) -> None:
    family = TORCHVISION[name]

    def build() -> Any:
        found = libraries["torchvision"].models
        return found.get_model(family.model, weights=None, num_classes=CLASSES, **family.arguments)

    path = export(libraries["torch"], build, family.size, exporter, tmp_path / "m.onnx")
    check(path, family.size)


def test_every_family_of_timm_is_here(libraries: dict[str, Any]) -> None:
    assert set(libraries["timm"].list_modules()) - set(TIMM) == set()


def test_every_family_of_torchvision_is_here(libraries: dict[str, Any]) -> None:
    models = libraries["torchvision"].models
    modules = {models.get_model_builder(n).__module__ for n in models.list_models(module=models)}
    here = {models.get_model_builder(family.model).__module__ for family in TORCHVISION.values()}
    assert modules == here


def test_a_model_with_weights_in_fp32_would_be_seen(tmp_path: Path) -> None:
    """The check can fail."""
    weight = np.ones((CLASSES, 3), np.float32)
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["input"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "w"], ["g"], transB=1),
        onnx.helper.make_node("Unsqueeze", ["g", "axes"], ["u"]),
        onnx.helper.make_node("ConvTranspose", ["u", "v"], ["c"], strides=[1, 2]),
        onnx.helper.make_node("Flatten", ["c"], ["output"]),
    ]
    given = onnx.helper.make_tensor_value_info("input", 1, ["N", 3, 64, 64])
    made = onnx.helper.make_tensor_value_info("output", 1, ["N", CLASSES])
    tensors = {"w": weight, "v": np.ones((CLASSES, CLASSES, 1, 1), np.float32)}
    weights = [onnx.numpy_helper.from_array(v, k) for k, v in tensors.items()]
    weights.append(onnx.numpy_helper.from_array(np.array([2, 3]), "axes"))
    graph = onnx.helper.make_graph(nodes, "g", [given], [made], weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m")
    with pytest.raises(AssertionError):
        check(tmp_path / "m", 64)
