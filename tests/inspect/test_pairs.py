"""The 16-bit pair sums, against a loop that does what VPMADDUBSW is documented to do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.inspect.pairs import Ints, exact_sums, excess, risks


def vpmaddubsw(rows: NDArray[np.uint8], weight: Ints) -> tuple[NDArray[np.int64], int]:
    """The sums of saturated pair sums [positions, out], and how many pairs saturate."""
    sums = np.zeros((len(rows), weight.shape[1]), np.int64)
    count = 0
    for position, out in np.ndindex(*sums.shape):
        for i in range(0, weight.shape[0], 2):
            pair = sum(
                int(x) * int(w)
                for x, w in zip(rows[position, i : i + 2], weight[i : i + 2, out], strict=True)
            )
            count += not -32768 <= pair <= 32767
            sums[position, out] += max(-32768, min(32767, pair))
    return sums, count


@pytest.mark.parametrize("k", [1, 2, 7, 16])
def test_the_excess_is_what_saturation_takes(k: int) -> None:
    rng = np.random.default_rng(k)
    rows = rng.integers(0, 256, (9, k), np.uint8)
    weight = rng.integers(-128, 128, (k, 5)).astype(np.int32)
    rows[:4] = 255
    weight[:, 0], weight[:, 1] = 127, -128
    lost, count = excess(rows, risks(weight), 5)
    saturated, expected = vpmaddubsw(rows, weight)
    positions, outputs = (a.reshape(-1) for a in np.indices((9, 5)))
    exact, taken = exact_sums(rows, weight, positions, outputs)
    assert np.array_equal(exact.reshape(9, 5), rows.astype(np.int64) @ weight)
    assert np.array_equal(taken.reshape(9, 5)[:, 0], rows.sum(axis=1))
    assert np.array_equal(exact.reshape(9, 5) - lost, saturated)
    assert count == expected
    assert (count > 0) == (k > 1)


@pytest.mark.parametrize(
    ("pair", "possible"),
    [
        ((64, 64), False),
        ((-64, -64), False),
        ((127, 1), False),
        ((127, 2), True),
        ((-128, 0), False),
        ((-128, -1), True),
        ((127, -128), False),
    ],
)
def test_which_weights_can_saturate(pair: tuple[int, int], possible: bool) -> None:
    """255 · (w₀ + w₁) for weights of one sign: 255 · 128 = 32640 still fits."""
    assert bool(len(risks(np.array(pair, np.int32)[:, None]))) == possible


def test_seven_bit_weights_never_saturate() -> None:
    every = np.array(np.meshgrid(range(-64, 65), range(-64, 65))).reshape(2, -1)
    assert 255 * 64 * 2 < 32768
    assert len(risks(every.astype(np.int32))) == 0


def test_neighbours_pair_from_the_first_on() -> None:
    """(0, 1), (2, 3): 127 and 127 side by side but in different pairs do no harm."""
    weight = np.array([[0], [127], [127], [0]], np.int32)
    assert len(risks(weight)) == 0
    assert len(risks(weight[1:])) == 1


def test_an_odd_one_out_is_alone() -> None:
    assert len(risks(np.full((3, 1), 127, np.int32))) == 1


def test_no_inputs_no_excess() -> None:
    found = risks(np.full((4, 2), 127, np.int32))
    lost, count = excess(np.zeros((3, 4), np.uint8), found, 2)
    assert count == 0
    assert not lost.any()
