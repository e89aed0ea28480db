"""One run of the network over images serves all who look at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import Images, network

from quantlab.errors import QuantizeError
from quantlab.quantize.engine import placed_net, prepared_for
from quantlab.quantize.engine.channels import ChannelWatch
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Watch, observe_tensors, watch
from quantlab.quantize.engine.ranges import Candidates, MinMax
from quantlab.recipe import Recipe


def net_of(folder: Path, images: Images) -> Net:
    model, recipe = network(folder), Recipe(placement="widest")
    return placed_net(prepared_for(model, recipe), recipe, images)[0]


def test_each_watch_is_given_its_tensors_of_its_batches(tmp_path: Path) -> None:
    images = Images(12)
    net = net_of(tmp_path, images)
    batches = list(images)
    batches = [batches[0][:3], batches[0][3:5], batches[0][5:6]]
    first, second = net.quantized_tensors[1:3]
    seen: dict[str, list[dict[str, np.ndarray]]] = {"all": [], "last": [], "none": []}
    watch(
        net,
        [
            Watch([first], seen["all"].append),
            Watch([second, net.input], seen["last"].append, range(1, 3)),
            Watch([], seen["none"].append),
        ],
        batches,
    )
    given = {
        key: np.concatenate([v[net.input] for v in found]) for key, found in seen.items() if found
    }
    np.testing.assert_array_equal(given["all"], np.concatenate(batches))
    np.testing.assert_array_equal(given["last"], np.concatenate(batches[1:]))
    assert not seen["none"]
    assert all(set(v) == {first, net.input} for v in seen["all"])
    assert all(set(v) == {second, net.input} for v in seen["last"])


@pytest.mark.parametrize("scaled", [False, True])
def test_values_kept_say_what_another_run_would(tmp_path: Path, scaled: bool) -> None:
    """Of every tensor: whatever its layout, scaled by channel or not."""
    images = Images(12)
    net = net_of(tmp_path, images)
    names = [name for name in net.quantized_tensors if name != net.input]
    channels = ChannelWatch(net, names, kept=names)
    watch(net, [channels.watch], images)
    found = channels.channels()
    rng = np.random.default_rng(0)
    for name in names:
        count = found[name].low.shape[1]
        by = rng.uniform(1, 4, count).astype(np.float32) if scaled else np.ones(count, np.float32)
        kept, observed = (Candidates(MinMax(), 255, 99.9) for _ in range(2))
        found[name].show(name, kept, by)
        observe_tensors(net, {name: by}, {name: observed}, images)
        assert kept.ranges() == observed.ranges(), name
        assert kept.range() == observed.range()


def test_values_kept_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    images = Images(4)
    net = net_of(tmp_path, images)
    name = net.quantized_tensors[1]
    channels = ChannelWatch(net, [name], kept=[name])
    images.array[1] = np.nan
    watch(net, [channels.watch], images)
    found = channels.channels()[name]
    with pytest.raises(QuantizeError, match=name):
        found.show(name, MinMax(), np.ones(found.low.shape[1], np.float32))
