"""Numbers inside a network's name: 'gfl(width=128,convs=2):r18'."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import first_task_with, is_library, known_names, parse_name, split_names


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("r18", "gfl:resnet18"),
        ("retinanet:r50", "retinanet:resnet50"),
        ("gfl(width=128,convs=2):r18", "gfl(width=128,convs=2):resnet18"),
        ("gfl(convs=2, width=128):r18", "gfl(width=128,convs=2):resnet18"),
        ("gfl(width=256,convs=4):r18", "gfl:resnet18"),  # what is published is not written
        ("atss(convs=4,width=64):mbv2", "atss(width=64):mobilenetv2_100"),
        ("tv:retinanet_resnet50_fpn_v2", "tv:retinanet_resnet50_fpn_v2"),
    ],
)
def test_a_name_with_options_resolves_to_one_full_name(text: str, resolved: str) -> None:
    name = parse_name(text, task="detection")
    assert str(name) == resolved
    assert parse_name(resolved, task="detection") == name
    assert first_task_with(resolved) == "detection"


def test_an_option_is_its_number_or_the_published_one() -> None:
    name = parse_name("gfl(width=128):r18", task="detection")
    assert (name.option("width"), name.option("convs")) == (128, 4)
    assert parse_name("gfl(width=128):resnet18.a1_in1k", task="detection").tag == "a1_in1k"


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("gfl(widht=128):r18", "unknown option of gfl 'widht'", "did you mean 'width'? legal: convs, width"),
        ("gfl():r18", "unknown option of gfl ''", "legal: convs, width"),
        (
            "gfl(width=100):r18",
            "'width=100' is no value of it",
            "width once, a multiple of 16: 'gfl(width=256):N",
        ),
        ("gfl(width=0):r18", "'width=0' is no value of it", "a multiple of 16"),
        ("gfl(convs=two):r18", "'convs=two' is no value of it", "convs once, 1 to 8: 'gfl(convs=4):NAME'"),
        ("gfl(convs=-1):r18", "'convs=-1' is no value of it", "1 to 8"),
        ("gfl(convs=2,convs=3):r18", "'convs=3' again in 'gfl(convs=2,convs=3)'", "give convs once"),
        ("retinanet(width=128):r18", "networks of retinanet have no options", "write retinanet:NAME"),
        (
            "deeplabv3(width=128):r18",
            "networks of deeplabv3 have no options",
            "families with options: gfl, atss",
        ),
    ],
)
def test_an_option_that_is_none_is_refused(text: str, what: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_name(text, task="detection", where="--student")
    assert what in caught.value.what and caught.value.where == "--student" and fix in caught.value.fix


def test_the_fix_of_a_wrong_option_is_a_name() -> None:
    with pytest.raises(BadOption) as caught:
        parse_name("gfl(convs=two):r18", task="detection")
    typed = caught.value.fix.partition("'")[2].partition("'")[0].replace("NAME", "r18")
    assert str(parse_name(typed, task="detection")) == "gfl:resnet18"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        ("gfl(width=128,convs=2):r18", ["gfl(width=128,convs=2):r18"]),
        (" run , gfl(width=128,convs=2):r18,r50", ["run", "gfl(width=128,convs=2):r18", "r50"]),
        ("a,,b", ["a", "", "b"]),
        ("gfl(width=64", ["gfl(width=64"]),
    ],
)
def test_commas_inside_brackets_are_of_one_name(text: str, names: list[str]) -> None:
    assert split_names(text) == names


def test_whose_a_name_is_does_not_depend_on_its_options() -> None:
    assert is_library("gfl(width=128,convs=2):r18") and is_library("tv:fcos_resnet50_fpn")
    assert not is_library("gfl") and not is_library("my.nets:gfl") and not is_library("gflx(width=1):r18")


def test_listed_names_are_those_of_the_task() -> None:
    names = known_names("detection")
    assert {"gfl:resnet18", "fcos:resnet101", "tv:fcos_resnet50_fpn"} <= set(names)
    assert "tv:fcn_resnet50" not in names and "tv:fcn_resnet50" in known_names("segmentation")
    with pytest.raises(BadOption, match="unknown network 'tv:fcos_resnet50'") as caught:
        parse_name("tv:fcos_resnet50", task="detection")
    assert "did you mean 'tv:fcos_resnet50_fpn'?" in caught.value.fix
