from __future__ import annotations

from quantlab.report.document import Code, Gallery, Page, Table, prose, say, section


def test_prose_marks_code() -> None:
    assert prose("A larger `--budget`: try `x`") == (
        "A larger ",
        Code("--budget"),
        ": try ",
        Code("x"),
    )
    assert prose("none") == ("none",)


def test_sections_hold_what_there_is() -> None:
    empty = Table(["a"], [])
    assert section("T", [empty, Gallery(empty)]) is None
    assert section("T", [], None) is None
    inner = section("Inner", [say("x")])
    found = section("T", [empty, say("y")], inner, None)
    assert found is not None
    assert (found.blocks, found.sections) == ((say("y"),), (inner,))


def test_headlines() -> None:
    assert Page("FAIL", "x", (), ()).headline == "FAIL: x"
    assert Page("", "x", (), ()).headline == "x"


def test_alignment() -> None:
    table = Table(["a", "b"], [], " r")
    assert [table.is_right(i) for i in range(3)] == [False, True, False]
