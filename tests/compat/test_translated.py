"""What the rest of quantlab sees of other tools' configurations."""

from __future__ import annotations

from quantlab.compat import translated


def test_each_tool_is_recognized_by_its_keys() -> None:
    ours = {"model": "m.onnx", "eval_data": "val"}
    assert translated(ours, "a.yaml").settings == ours
    assert translated(ours, "a.yaml").table == ""
    inc = translated({"model": {"name": "m"}, "tuning": {"random_seed": 3}}, "a.yaml")
    assert inc.settings["seed"] == 3
    assert "| tuning.random_seed" in inc.table
    mindcv = translated({"image_resize": 224, "ckpt_path": "m.onnx"}, "a.yaml")
    assert (mindcv.settings["model"], mindcv.table) == ("m.onnx", "")
