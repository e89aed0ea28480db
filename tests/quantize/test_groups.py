from pathlib import Path

from quantlab.model.model import Model
from quantlab.quantize.groups import kernel_groups
from quantlab.quantize.prepare import prepare
from quantlab.testing.models import tiny_classifier


def test_a_group_is_a_convolution_with_its_activation_and_residual(tmp_path: Path) -> None:
    prepared = prepare(Model.load(tiny_classifier(tmp_path / "m.onnx")).proto())
    groups = kernel_groups(prepared)
    kinds = {node.name: node.op_type for node in prepared.graph.node}
    assert {g.kind for g in groups} == {"Conv", "Gemm"}
    assert sum(g.kind == "Conv" for g in groups) == list(kinds.values()).count("Conv")
    members = [kinds[name] for g in groups for name in g.nodes]
    assert members.count("Clip") == list(kinds.values()).count("Clip")
    assert "Add" in members
    flat = [name for g in groups for name in g.nodes]
    assert len(flat) == len(set(flat))
