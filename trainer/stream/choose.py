"""Which stream a run reads: stored views or fresh ones, with a live teacher behind them, or no images."""

from collections.abc import Sequence

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import Need
from kdcache.losses.plan.plan import LossPlan
from kdcache.trainer.ranks import Ranks
from kdcache.trainer.stream.arrays.levels import Rule
from kdcache.trainer.stream.batch import BatchLayout, Stream
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.noise import NoiseStream
from kdcache.trainer.stream.online import OnlineStream
from kdcache.trainer.stream.options import StreamOptions
from kdcache.trainer.stream.run_source import RunSource
from kdcache.trainer.stream.stored import StoredStream

TURNS = "turns"  # kind of views


def choose_stream(
    options: StreamOptions,
    run_source: RunSource,
    plan: LossPlan,
    layout: BatchLayout,
    teacher: Network | None,
    ranks: Ranks,
    *,
    num_threads: int,
) -> Stream:
    """The stream of a run. Raises BadOption for a cache without the quarter turns that a loss reads."""
    stream: Stream
    if plan.step_form == "generator":
        return NoiseStream(layout, run_source.num_samples)
    if run_source.cache is not None:
        if plan.turns:
            _check_turns(run_source.cache, plan.expression)
        needs = () if teacher is not None else plan.needs
        stream = _stored(options, run_source.cache, needs, layout, ranks, num_threads, turns=plan.turns)
    else:
        assert run_source.source is not None
        stream = FreshStream(
            run_source.source,
            layout=layout,
            crop=run_source.crop,
            augment=run_source.augment,
            turns=plan.turns,
            num_threads=num_threads,
            device_id=ranks.device_id,
        )
    if teacher is None:
        return stream
    return OnlineStream(stream, teacher, plan.needs, ranks.device, amp=ranks.amp)


def _stored(
    options: StreamOptions,
    cache: Cache,
    needs: Sequence[Need],
    layout: BatchLayout,
    ranks: Ranks,
    num_threads: int,
    *,
    turns: bool,
) -> StoredStream:
    return StoredStream(
        cache,
        needs=needs,
        layout=layout,
        num_threads=num_threads,
        device_id=ranks.device_id,
        views=TURNS if turns else None,
        crop=options.crop,
        keep_empty=options.keep_empty,
        rule=Rule(options.stream, options.pixel_memory),
    )


def _check_turns(cache: Cache, loss: str) -> None:
    kinds = sorted({views.kind for views in cache.manifest.views})
    if TURNS not in kinds:
        add = f"kdcache build --cache {cache.manifest.name} --views turns:8"
        raise BadOption(
            f"loss '{loss}' reads every image in four quarter turns; the cache has {', '.join(kinds)}",
            where=f"--loss {loss} --cache {cache.manifest.name}",
            fix=f"add them with '{add}', or use --data and --online",
        )
