"""A tap that stands for several: 'fpn' is p3 ... p7 wherever a tap is named."""

from pathlib import Path

import pytest

from kdcache.cache.build.options import BuildOptions, TapRequest, default_requests, expanded, parse_tap
from kdcache.cache.build.taps import tap_entries
from kdcache.cache.codecs.table import default_codec
from kdcache.cache.errors import BadOption
from kdcache.cache.grid import kind_of
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.ensemble import Ensemble
from kdcache.cache.networks.network import Network
from kdcache.cache.spec import Need, TensorSpec

TAPS = ("stage4", "p3", "p4", "cls3", "cls4", "box3", "box4")
GROUPS = {"fpn": ("p3", "p4"), "cls": ("cls3", "cls4"), "box": ("box3", "box4")}


def asked(*taps: str, needs: tuple[Need, ...] = (), groups: object = GROUPS) -> list[tuple[str, str | None]]:
    options = BuildOptions(
        runs_dir=Path("runs"),
        caches_dir=Path("caches"),
        teacher="t",
        taps=tuple(parse_tap(text) for text in taps),
        needs_of=lambda task: needs,
    )
    resolved = options.resolved("detection", TAPS, groups)  # type: ignore[arg-type]
    return [(request.tap, request.codec) for request in resolved.requests()]


def test_a_group_is_its_levels_with_its_codec() -> None:
    assert asked("fpn=int8") == [("p3", "int8"), ("p4", "int8")]
    assert asked("stage4", "cls") == [("stage4", None), ("cls3", None), ("cls4", None)]


@pytest.mark.parametrize("order", [("fpn=int8", "p4=fp16"), ("p4=fp16", "fpn=int8")])
def test_a_level_that_was_named_itself_wins_over_its_group(order: tuple[str, ...]) -> None:
    assert dict(asked(*order)) == {"p3": "int8", "p4": "fp16"}


def test_of_one_tap_the_last_one_written_counts() -> None:
    assert asked("stage4", "stage4=fp32") == [("stage4", "fp32")]
    assert asked("fpn", "fpn=fp16") == [("p3", "fp16"), ("p4", "fp16")]


def test_what_a_loss_needs_of_a_group_is_its_levels() -> None:
    needs = (Need(tap="cls"), Need(tap="box"))
    assert asked(needs=needs) == [("cls3", None), ("cls4", None), ("box3", None), ("box4", None)]
    assert dict(asked("cls=fp16", needs=needs))["cls4"] == "fp16"


def test_a_loss_that_reads_some_levels_of_a_group_is_given_those() -> None:
    """Of an ensemble those of every member; beside another loss that reads them all, all."""
    assert asked(needs=(Need(tap="fpn", first=1),)) == [("p3", None)]
    assert [tap for tap, _ in asked(needs=(Need(tap="fpn", first=1), Need(tap="fpn")))] == ["p3", "p4"]
    both = {"fpn": ("a.p3", "a.p4", "b.p3", "b.p4")}
    assert [tap for tap, _ in asked(needs=(Need(tap="fpn", first=1),), groups=both)] == ["a.p3", "b.p3"]
    assert [tap for tap, _ in asked("fpn", needs=(Need(tap="fpn", first=1),))] == ["p3", "p4"]


def test_a_teacher_of_other_classes_gives_its_features() -> None:
    usual = default_requests("detection", TAPS, GROUPS, differ=True)
    assert [request.tap for request in usual] == ["p3", "p4"]


def test_the_tasks_own_targets_are_levels() -> None:
    usual = default_requests("detection", TAPS, GROUPS)
    assert [request.tap for request in usual] == ["cls3", "cls4", "box3", "box4"]


def test_a_group_has_no_place_of_its_own() -> None:
    with pytest.raises(BadOption, match="'fpn' stands for 2 taps, and one place was given") as caught:
        expanded(TapRequest("fpn", "neck.out", "int8"), GROUPS)
    assert caught.value.where == "--tap fpn@neck.out" and caught.value.fix.endswith("--tap p3@neck.out")


def small() -> Network:
    return build_network("gfl(width=32,convs=1):mbv2", task="detection", num_classes=3)


def test_an_unknown_tap_of_a_detector_offers_its_groups() -> None:
    with pytest.raises(BadOption, match="unknown tap 'fpm'") as caught:
        tap_entries([TapRequest("fpm")], small(), (64, 64))
    assert "did you mean 'fpn'?" in caught.value.fix


def test_entries_of_a_detector_have_the_declared_strides_and_their_codecs() -> None:
    network = small()
    requests = [one for kind in network.groups for one in expanded(TapRequest(kind), network.groups)]
    entries = {entry.name: entry for entry in tap_entries(requests, network, (64, 64))}
    assert [entries[f"p{n}"].stride for n in (3, 4, 5, 6, 7)] == [8, 16, 32, 64, 128]
    codecs = {kind: {entries[tap].codec for tap in levels} for kind, levels in network.groups.items()}
    assert codecs == {"fpn": {"int8"}, "cls": {"fp16"}, "box": {"fp16"}, "bins": {"int8"}}
    assert entries["cls7"].channels == 3 and entries["bins3"].module == "head#bins3"


@pytest.mark.parametrize(
    ("tap", "channels", "codec"),
    [
        ("cls3", 32, "fp16"), ("cls3", 33, "int8"), ("a.cls3", 3, "fp16"), ("box7", 36, "fp16"),
        ("ctr4", 1, "fp16"), ("bins3", 20, "int8"), ("p3", 16, "int8"), ("box", 4, "int8"),
        ("stage3", 4, "int8"),
    ],
)  # fmt: skip
def test_boxes_and_few_classes_keep_half_precision(tap: str, channels: int, codec: str) -> None:
    assert default_codec(tap, TensorSpec((4, 5, channels), 8)) == codec


def test_the_kind_of_a_tap_is_in_its_name() -> None:
    assert [kind_of(tap) for tap in ("p3", "cls12", "box3", "bins7", "ctr4")] == [
        "fpn",
        "cls",
        "box",
        "bins",
        "ctr",
    ]
    assert [kind_of(tap) for tap in ("p", "stage3", "3", "fpn3", "logits")] == [""] * 5


def test_groups_of_an_ensemble_are_those_of_its_members() -> None:
    network = Ensemble("a,b", {"a": small(), "b": small()})
    assert network.groups["a.box"] == ("a.box3", "a.box4", "a.box5", "a.box6", "a.box7")
    assert network.groups["fpn"][4:6] == ("a.p7", "b.p3")
    assert [r.tap for r in default_requests("detection", tuple(network.taps), network.groups)][:2] == [
        "a.cls3",
        "a.cls4",
    ]
