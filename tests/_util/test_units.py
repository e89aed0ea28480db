"""Shares, durations and sizes in words."""

from __future__ import annotations

import pytest

from quantlab._util.units import duration, image_size, seconds, share, sides, size_bytes


@pytest.mark.parametrize(
    ("text", "value"), [("1%", 0.01), (" 0.5 % ", 0.005), (0.25, 0.25), ("1e-3", 0.001), (0, 0.0)]
)
def test_shares(text: object, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1.2", "150%", "-1%", "much", "", True, "1.2.3"])
def test_what_is_no_share(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a share such as 1% or 0\.01"):
        share(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172_800), (7, 7), (1e-9, 1e-9)],
)
def test_durations(text: object, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("value", "text"), [(90, "90s"), (300, "5m"), (7200, "2h"), (0, "0s"), (0.5, "0.5s")]
)
def test_durations_are_written_as_they_are_read(value: float, text: str) -> None:
    assert duration(value) == text
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["5 minutes", "-1", "", True, float("inf"), float("nan"), None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 90s, 5m or 1h"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10GB", 10**10),
        ("1.5 tb", 1_500_000_000_000),
        ("500M", 500_000_000),
        ("2kB", 2000),
        ("4096 B", 4096),
        ("7 bytes", 7),
        ("0", 0),
        (0, 0),
    ],
)
def test_sizes(text: object, value: int) -> None:
    assert size_bytes(text) == value


@pytest.mark.parametrize("text", ["10 XB", "-1", "", "GB", "1 GiB", None, "inf"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size such as 10GB or 500MB"):
        size_bytes(text)


@pytest.mark.parametrize("text", ["4", "10000", " 2.5 ", 7])
def test_a_size_without_a_unit(text: object) -> None:
    with pytest.raises(ValueError, match="has no unit: write"):
        size_bytes(text)


@pytest.mark.parametrize("text", ["1", 1, " 1 "])
def test_a_share_that_may_be_one_or_all(text: object) -> None:
    with pytest.raises(ValueError, match="has no unit: write 1% or 100%"):
        share(text)


@pytest.mark.parametrize(
    ("text", "size", "found"),
    [
        (224, 224, 224),
        ("224", 224, 224),
        ("48x192", "48x192", (48, 192)),
        (" 48 x 192 ", "48x192", (48, 192)),
        ("64x64", 64, 64),
    ],
)
def test_the_size_of_images(text: object, size: int | str, found: int | tuple[int, int]) -> None:
    assert image_size(text) == size
    assert sides(image_size(text)) == found


@pytest.mark.parametrize("text", ["", "0", "48x", "x48", "48x192x3", "-1", "4097", "1.5", "48x0"])
def test_no_size_of_images(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 224 or 48x192"):
        image_size(text)
