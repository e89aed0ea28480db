"""That int8 does not pay is said, with what is known of why; where it pays, nothing is."""

from __future__ import annotations

import pytest
from pages import made

from quantlab.compare.comparison import Comparison, LeftInFp32, Macs
from quantlab.inspect.int8_share import NOT_QUANTIZED
from quantlab.report.context import TrialRow
from quantlab.report.pays_off import macs_sentence, macs_words, worth

LEFT = (
    LeftInFp32(op_type="Conv", nodes=2, share=0.25, reason="excluded by the recipe"),
    LeftInFp32(op_type="Mul", nodes=65, share=0, reason="not quantized by the engine"),
    LeftInFp32(op_type="Sigmoid", nodes=64, share=0, reason="not quantized by the engine"),
)
MACS = Macs(count=100, int8=0.75, fp32=LEFT)
NONE = Macs(count=100, int8=0, fp32=(LEFT[0].model_copy(update={"share": 1.0}),))


def untimed(macs: Macs | None) -> Comparison:
    return made(macs=macs).model_copy(update={"speeds": ()})


def test_where_int8_is_faster_nothing_is_said() -> None:
    assert worth(made(macs=MACS)) == ""


def test_a_faster_file_without_int8_is_not_called_int8() -> None:
    text = worth(made(macs=NONE))
    assert text == (
        "No MAC is in int8: what is faster is the fp32 graph, as it was prepared. 0.0% of the MACs "
        "are in int8; left in fp32: 2 Conv (100.0% of the MACs; excluded by the recipe)."
    )


def test_slower_with_what_is_left_in_fp32_and_why() -> None:
    text = worth(made(int8_ms=20, macs=MACS))
    assert text.startswith(
        "int8 does not pay on this machine: 2.00x slower than fp32 at batch 1 (speedup 0.50x, 95% "
        "interval 0.5"
    )
    assert text.endswith(
        "75.0% of the MACs are in int8; left in fp32: 2 Conv (25.0% of the MACs; excluded by the "
        "recipe), 65 Mul, 64 Sigmoid (no MACs; not quantized by the engine)."
    )


def test_what_cannot_be_told_apart_is_not_called_slower() -> None:
    text = worth(made(int8_ms=10))
    assert text.startswith(
        "int8 is not shown to pay on this machine: at batch 1 its speed could not be told apart "
        "from fp32's (speedup 1.00x, 95% interval "
    )
    assert "slower" not in text


def test_too_noisy_a_machine_says_nothing_of_the_model() -> None:
    c = made(int8_ms=20)
    (speed,) = c.speeds
    noisy = speed.model_copy(update={"conclusion": "too noisy"})
    text = worth(c.model_copy(update={"speeds": (noisy,)}))
    assert "could not be told apart from fp32's on a machine this noisy" in text
    assert "fp32 against itself" in text


def test_every_batch_size_is_told_when_one_does_not_pay() -> None:
    fast, slow = made().speeds[0], made(int8_ms=20).speeds[0]
    both = (fast, slow.model_copy(update={"batch_size": 8}))
    text = worth(made().model_copy(update={"speeds": both}))
    assert "2.00x faster than fp32 at batch 1" in text
    assert "2.00x slower than fp32 at batch 8" in text


def test_the_other_files_of_a_tune() -> None:
    slow, chosen = made(int8_ms=20), TrialRow("a", speedup=0.5, faster=False, chosen=True)
    other = TrialRow("b", speedup=0.9, faster=False, meets=True)
    assert "None of the 2 files that were timed is faster." in worth(slow, (chosen, other))
    assert "files that were timed" not in worth(slow, (chosen,))
    fast = TrialRow("c", speedup=1.3, faster=True, meets=False)
    assert "c is faster (1.30x), but misses the criterion." in worth(slow, (chosen, other, fast))


def test_a_tune_that_ended_before_the_last_timing_has_its_trials() -> None:
    slow = TrialRow("a", speedup=0.84, faster=False, chosen=True)
    assert "in its trial the best file ran at 0.84x of fp32's speed." in worth(
        untimed(None), [slow]
    )
    fast = TrialRow("a", speedup=2.0, faster=True, chosen=True)
    assert worth(untimed(None), [fast]) == ""


def test_without_timing_only_no_int8_at_all_is_told() -> None:
    assert worth(untimed(None)) == worth(untimed(MACS)) == ""
    assert worth(untimed(NONE)).startswith("int8 cannot pay: nothing was timed, but no MAC is in")
    plain = LeftInFp32(op_type="Conv", nodes=2, share=1, reason=NOT_QUANTIZED)
    assert worth(untimed(Macs(count=9, int8=0, fp32=(plain,)))) == ""


def test_a_model_against_itself_is_no_question() -> None:
    c = made(int8_ms=20)
    same = c.int8.model_copy(update={"sha256": c.fp32.sha256})
    assert worth(c.model_copy(update={"int8": same})) == ""


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0.0%"), (0.0001, "under 0.1%"), (0.5, "50.0%"), (0.99999, "over 99.9%"), (1, "100.0%")],
)
def test_neither_nothing_nor_all_where_that_is_not_so(share: float, words: str) -> None:
    assert macs_words(share) == words


def test_the_largest_parts_are_named() -> None:
    parts = tuple(LeftInFp32(op_type=f"Op{i}", nodes=1, share=0, reason=f"r{i}") for i in range(6))
    text = macs_sentence(Macs(count=1, int8=1, fp32=parts))
    assert "1 Op3 (no MACs; r3), and 2 more kinds." in text
    assert "Op4" not in text
    assert macs_sentence(Macs(count=1, int8=1)).endswith("nothing that computes is left in fp32.")
