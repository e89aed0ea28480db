"""The public names: locked, and each one importable."""

from __future__ import annotations

import pytest

import quantlab

NAMES = {
    "Comparison",
    "Dataset",
    "Measurement",
    "Model",
    "Pipeline",
    "Policy",
    "Predictions",
    "QuantlabError",
    "Recipe",
    "Runner",
    "Verdict",
    "__version__",
    "judge",
    "load_record",
    "open_dataset",
}


def test_all_is_locked() -> None:
    assert set(quantlab.__all__) == NAMES
    assert len(quantlab.__all__) == len(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_can_be_imported(name: str) -> None:
    found = getattr(quantlab, name)
    assert found is getattr(quantlab, name)
    if name != "__version__":
        assert found.__name__ == name
        assert found.__module__.startswith("quantlab.")
        assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'quantlab' has no attribute 'Modle'"):
        _ = quantlab.Modle
