"""Format a check against stored test data."""

from __future__ import annotations

from quantlab.inspect.stored import ATOL, RTOL, StoredCheck
from quantlab.report.formats import table


def stored_summary(found: StoredCheck) -> str:
    """Pass or fail, then each set."""
    rows = [
        [x.name, "pass" if x.passed else "FAIL", f"{x.beyond:,} of {x.values:,}",
         f"{x.largest:.3g}", f"{x.relative:.3g}", f"{x.agreeing} of {x.images}"]
        for x in found.sets
    ]  # fmt: skip
    failed = sum(not x.passed for x in found.sets)
    verdict = f"FAIL: {failed} of {len(found.sets)} sets differ" if failed else "PASS: as stored"
    head = ["set", "result", "beyond", "largest", "relative", "same top-1"]
    return "\n".join(
        [
            f"{verdict}: {found.model} against its test data (rtol {RTOL:g}, atol {ATOL:g})",
            "",
            table(head, rows, right="  rrrr"),
        ]
    )
