"""What a user may write for a network."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import first_task_with, parse_name


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("r18", "deeplabv3:resnet18"),
        ("r101", "deeplabv3:resnet101"),
        ("mbv2", "deeplabv3:mobilenetv2_100"),
        ("pspnet:r18", "pspnet:resnet18"),
        ("deeplabv3:resnet50.a1_in1k", "deeplabv3:resnet50.a1_in1k"),
        ("timm:r34", "timm:resnet34"),
        ("tv:fcn_resnet50", "tv:fcn_resnet50"),
        ("kdcache.cache.spec:Need", "kdcache.cache.spec:Need"),
    ],
)
def test_a_name_resolves_to_one_full_name(text: str, resolved: str) -> None:
    assert str(parse_name(text, task="segmentation")) == resolved
    assert parse_name(str(parse_name(text, task="segmentation")), task="segmentation") == parse_name(
        text, task="segmentation"
    )


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("r18", "timm:resnet18"),
        ("mbv2", "timm:mobilenetv2_100"),
        ("timm:resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("resnet20", "resnet20"),
        ("resnet56a", "resnet56a"),
        ("resnet8x4", "resnet8x4"),
        ("wrn-40-2", "wrn-40-2"),
        ("wrn-28-10", "wrn-28-10"),
    ],
)
def test_a_name_for_classification_resolves_to_one_full_name(text: str, resolved: str) -> None:
    assert str(parse_name(text, task="classification")) == resolved
    parsed = parse_name(resolved, task="classification")
    assert parse_name(str(parsed), task="classification") == parsed
    assert parsed.tag == ("a1_in1k" if text.endswith("a1_in1k") else "")


@pytest.mark.parametrize(
    ("text", "near"),
    [("resnet57", "'resnet56"), ("wrn-41-2", "'wrn-40-2'"), ("resnet50", "resnet50'"), ("wrn-0-2", "'wrn-")],
)
def test_an_unknown_name_for_classification_offers_the_nearest(text: str, near: str) -> None:
    with pytest.raises(BadOption, match=f"unknown network '{text}'") as caught:
        parse_name(text, where="--student", task="classification")
    assert near in caught.value.fix and "wrn-D-W" in caught.value.fix


def test_a_network_for_the_other_task_is_refused() -> None:
    with pytest.raises(
        BadOption, match="'resnet20' is a network for classification, and the data are for seg"
    ):
        parse_name("resnet20", task="segmentation")
    for text in ("deeplabv3:r18", "tv:fcn_resnet50"):
        with pytest.raises(
            BadOption, match="is a network for segmentation, and the data are for class"
        ) as caught:
            parse_name(text, where="--student", task="classification")
        assert caught.value.where == "--student" and "timm:NAME" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("r18", "segmentation"),
        ("timm:resnet18", "segmentation"),
        ("tv:fcn_resnet50", "segmentation"),
        ("kdcache.cache.spec:Need", "segmentation"),
        ("resnet20", "classification"),
        ("wrn-40-2", "classification"),
        ("no_such_network", "segmentation"),
    ],
)
def test_a_name_alone_is_of_the_first_task_that_has_it(text: str, task: str) -> None:
    assert first_task_with(text) == task


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("r102", "r10"),
        ("resnet50", "resnet50"),
        ("deeplab3:resnet18", "deeplabv3:resnet18"),
        ("tv:deeplabv3_resnet110", "tv:deeplabv3_resnet101"),
        ("pspnet:", "pspnet:resnet"),
        ("no.such.module:factory", ""),
    ],
)
def test_an_unknown_name_offers_the_nearest_and_the_forms(text: str, near: str) -> None:
    with pytest.raises(BadOption, match=f"unknown network '{text}'") as caught:
        parse_name(text, task="segmentation", where="--student")
    assert caught.value.where == "--student"
    assert near in caught.value.fix
    assert "pspnet:ENCODER" in caught.value.fix
