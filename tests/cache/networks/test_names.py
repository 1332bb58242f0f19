"""What a user may write for a network."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import parse_name


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
    assert str(parse_name(text)) == resolved
    assert parse_name(str(parse_name(text))) == parse_name(text)


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
        parse_name(text, where="--student")
    assert caught.value.where == "--student"
    assert near in caught.value.fix
    assert "pspnet:ENCODER" in caught.value.fix
