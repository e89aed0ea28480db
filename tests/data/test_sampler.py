from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantlab.data.sampler import (
    LEAST,
    SPARE_FROM,
    default_size,
    missing_classes,
    overlap,
    random_sample,
    sparing,
    split,
    stratified,
)
from quantlab.errors import DataError

CLASSES = 6
some_labels = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=60).map(
    lambda labels: np.array(labels, np.int64)
)
seeds = st.integers(0, 5)


def unique_digests(count: int) -> list[str]:
    return [f"digest {i}" for i in range(count)]


def tally(labels: NDArray[np.int64]) -> Counter[int]:
    return Counter(labels.tolist())


@given(some_labels, st.integers(1, 5), seeds)
def test_each_class_gives_k_or_all_it_has(labels: NDArray[np.int64], k: int, seed: int) -> None:
    chosen = stratified(labels, CLASSES, images_per_class=k, seed=seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert tally(labels[chosen]) == {c: min(k, n) for c, n in tally(labels).items()}
    assert np.array_equal(chosen, stratified(labels, CLASSES, images_per_class=k, seed=seed))


@given(some_labels, st.integers(1, 70), seeds)
def test_a_size_is_met_and_balanced(labels: NDArray[np.int64], size: int, seed: int) -> None:
    chosen = stratified(labels, CLASSES, size=size, seed=seed)
    assert chosen.size == min(size, labels.size)
    taken, there = tally(labels[chosen]), tally(labels)
    most = max(taken.values())
    assert all(taken[c] >= min(n, most - 1) for c, n in there.items())
    larger = stratified(labels, CLASSES, size=size + 1, seed=seed)
    assert set(chosen.tolist()) <= set(larger.tolist())


def test_seeds_differ_and_every_image_has_its_chance() -> None:
    labels = np.repeat(np.arange(5), 4)
    samples = [stratified(labels, 5, seed=seed) for seed in range(50)]
    assert set(np.concatenate(samples).tolist()) == set(range(20))
    few = [stratified(labels, 5, size=2, seed=seed) for seed in range(50)]
    assert set(labels[np.concatenate(few)].tolist()) == set(range(5))


def test_labels_are_checked_and_samples_are_not_empty() -> None:
    with pytest.raises(DataError, match="out of range"):
        stratified(np.array([0, 7]), 5)
    with pytest.raises(DataError, match="A sample of 0 images is none"):
        stratified(np.array([0]), 5, images_per_class=0)
    with pytest.raises(DataError, match="A sample of -1 images"):
        stratified(np.array([0]), 5, size=-1)


def test_missing_classes() -> None:
    assert missing_classes(np.array([0, 2, 2]), 5) == [1, 3, 4]
    assert missing_classes(np.array([1, 0]), 2) == []


def test_random_sample() -> None:
    chosen = random_sample(100, 10, seed=3)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen.size == 10
    assert random_sample(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert random_sample(100, 10, seed=4).tolist() != chosen.tolist()


@pytest.mark.parametrize(
    ("classes", "most", "each", "size"),
    [
        (2, 1000, True, LEAST),
        (2, 50, True, 50),
        (299, 1000, True, LEAST),
        (300, 5000, True, None),
        (1000, 40, False, None),
        (19, 6, True, 19),
        (19, 6, False, 6),
        (2, 0, False, 1),
    ],
)
def test_a_default_sample(classes: int, most: int, each: bool, size: int | None) -> None:
    assert default_size(classes, most, each=each) == size


def test_a_tenth_of_a_small_dataset_is_spared() -> None:
    sizes = (1, SPARE_FROM - 1, SPARE_FROM, 200, LEAST - 1, LEAST, 5000)
    assert [sparing(n) for n in sizes] == [1, 49, 45, 180, 270, 300, 5000]


def test_overlap_ignores_unreadable_images() -> None:
    assert overlap(["a", "b", ""], ["b", "c", ""]) == {"b"}


@given(some_labels, st.integers(1, 4), st.none() | st.integers(1, 30), seeds, st.data())
def test_split_is_disjoint_and_takes_at_most_half(
    labels: NDArray[np.int64], k: int, size: int | None, seed: int, data: st.DataObject
) -> None:
    count = labels.size
    digests = data.draw(
        st.lists(st.sampled_from("abcdefghijkl"), min_size=count, max_size=count)
        | st.just(unique_digests(count))
    )
    if len(set(digests)) < 2:
        return
    parts = split(labels, digests, images_per_class=k, size=size, seed=seed)
    used, judged = ({digests[i] for i in part} for part in (parts.calibration, parts.evaluation))
    assert used
    assert judged
    assert not used & judged
    assert used | judged == set(digests)
    firsts = np.array([digests.index(d) for d in sorted(set(digests))])
    there, taken = tally(labels[firsts]), tally(labels[parts.calibration])
    assert all(taken[c] <= max(1, n // 2) for c, n in there.items())
    if size is None:
        assert all(taken[c] == min(k, n // 2) for c, n in there.items() if n > 1)
    else:
        assert parts.calibration.size <= size


def test_split_of_twenty_images_of_nineteen_classes() -> None:
    labels = np.array([*range(19), 4])
    parts = split(labels, unique_digests(20))
    assert (parts.calibration.size, parts.evaluation.size) == (10, 10)
    assert 4 in labels[parts.calibration]


def test_split_of_one_image_a_class() -> None:
    labels = np.arange(1000)
    parts = split(labels, unique_digests(1000), seed=1)
    assert (parts.calibration.size, parts.evaluation.size) == (500, 500)
    assert not np.array_equal(parts.calibration, np.arange(500))


def test_split_without_labels() -> None:
    digests = unique_digests(10)
    assert split(None, digests).calibration.size == 5
    assert split(None, digests, size=3).calibration.size == 3
    parts = split(None, digests, size=3, seed=2)
    assert sorted([*parts.calibration, *parts.evaluation]) == list(range(10))


def test_unreadable_images_stay_in_sight() -> None:
    parts = split(np.array([0, 0, 1, 1]), ["", "", "", ""])
    assert parts.calibration.size + parts.evaluation.size == 4


@pytest.mark.parametrize("digests", [["a"], ["a", "a"]])
def test_one_image_cannot_be_split(digests: list[str]) -> None:
    with pytest.raises(DataError, match="One image cannot both"):
        split(np.zeros(len(digests), np.int64), digests)
