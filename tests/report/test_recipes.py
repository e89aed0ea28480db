"""The listing of recipes."""

from __future__ import annotations

from quantlab.fetch import PROJECTS, catalog
from quantlab.report.recipes import TO_EXPORT, model_words, recipes_summary
from quantlab.tune.ladder import ladder

TEXT = recipes_summary(tuple(catalog().values()), ladder())


def test_all_names_are_listed() -> None:
    for name in (*catalog(), *(r.name for r in ladder())):
        assert f"| {name} " in TEXT


def test_projects_are_apart_and_lead_to_their_pages() -> None:
    places = [TEXT.index(f"{title}: docs/recipes/{name}.md") for name, title in PROJECTS.items()]
    assert places == sorted(places)
    assert places[-1] < TEXT.index("| npu-torchvision ") < TEXT.index("Others:")
    assert TEXT.index("| photos ") > TEXT.index("Others:")


def test_whether_a_model_can_be_had_is_said() -> None:
    words = {name: model_words(entry) for name, entry in catalog().items()}
    assert words["mobilenetv2-12"] == "can be fetched"
    assert words["npu-torchvision"] == "is mobilenetv2-12"
    assert words["a16w16"] == "made from mxnet-mobilenetv2-1.0"
    assert model_words(catalog()["mobilenetv2-12"], {"mobilenetv2-12"}) == "cached"
    assert words["npu-timm"] == TO_EXPORT
