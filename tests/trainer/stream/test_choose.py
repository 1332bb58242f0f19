"""Which stream a run reads: what is asked of it is what the options, the losses and the teacher say."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.spec import Need
from kdcache.losses.plan.plan import LossPlan
from kdcache.trainer.ranks import Ranks
from kdcache.trainer.stream import choose
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.choose import choose_stream
from kdcache.trainer.stream.noise import NoiseStream
from kdcache.trainer.stream.options import StreamOptions
from kdcache.trainer.stream.run_source import RunSource

NEEDS = (Need(tap="logits"),)
LAYOUT = BatchLayout(seed=0, global_batch=4)
Asked = dict[str, dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What each stream was made with; none is made."""
    heard: Asked = {}

    def listening(name: str) -> Any:
        def make(*what: object, **options: object) -> str:
            heard[name] = {**options, "what": what}
            return name

        return make

    for name in ("StoredStream", "FreshStream", "OnlineStream"):
        monkeypatch.setattr(choose, name, listening(name))
    return heard


def chosen(*, stored: bool, teacher: bool = False, kinds: tuple[str, ...] = ("crops",), **plan: Any) -> Any:
    views = [SimpleNamespace(kind=kind) for kind in kinds]
    cache: Any = SimpleNamespace(manifest=SimpleNamespace(name="c", views=views))
    run_source: Any = SimpleNamespace(
        cache=cache if stored else None, source=None if stored else "source", num_samples=10, crop=(8, 12),
        augment="flip",
    )  # fmt: skip
    losses: Any = SimpleNamespace(
        **{"needs": NEEDS, "turns": False, "step_form": "joint", "expression": "kd", **plan}
    )
    return choose_stream(
        StreamOptions(crop=(4, 4)),
        cast(RunSource, run_source),
        cast(LossPlan, losses),
        LAYOUT,
        cast(Network, "teacher") if teacher else None,
        cast(Ranks, SimpleNamespace(device_id=None, device="cpu", amp=None)),
        num_threads=3,
    )


def test_a_cache_gives_pixels_and_targets_and_beside_a_live_teacher_only_pixels(asked: Asked) -> None:
    assert chosen(stored=True) == "StoredStream"
    assert asked["StoredStream"]["needs"] == NEEDS and asked["StoredStream"]["crop"] == (4, 4)
    assert chosen(stored=True, teacher=True) == "OnlineStream"
    assert asked["StoredStream"]["needs"] == (), "the cache need not keep what the teacher is asked"
    assert asked["OnlineStream"]["what"][:3] == ("StoredStream", "teacher", NEEDS)


def test_fresh_views_have_the_crop_and_recipe_of_the_run(asked: Asked) -> None:
    assert chosen(stored=False, turns=True) == "FreshStream"
    fresh = asked["FreshStream"]
    assert (fresh["crop"], fresh["augment"], fresh["turns"], fresh["num_threads"]) == (
        (8, 12),
        "flip",
        True,
        3,
    )


def test_a_loss_over_quarter_turns_reads_the_turned_views_of_a_cache(asked: Asked) -> None:
    chosen(stored=True, turns=True, kinds=("crops", "turns"))
    assert asked["StoredStream"]["views"] == "turns"
    chosen(stored=True)
    assert asked["StoredStream"]["views"] is None
    with pytest.raises(BadOption, match="four quarter turns; the cache has crops"):
        chosen(stored=True, turns=True)


def test_a_generator_reads_no_image(asked: Asked) -> None:
    assert isinstance(chosen(stored=False, teacher=True, step_form="generator"), NoiseStream) and not asked
