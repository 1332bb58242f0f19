"""Which stream a run reads: stored views or fresh ones, with a live teacher behind them, or no images."""

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache
from kdcache.losses.plan.plan import LossPlan
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.ranks import Place
from kdcache.trainer.steps.noise_stream import NoiseStream
from kdcache.trainer.stream.batch import BatchLayout, Stream
from kdcache.trainer.stream.fresh import fresh_stream
from kdcache.trainer.stream.online import online
from kdcache.trainer.stream.run_source import Origin
from kdcache.trainer.stream.stored import stored_stream

TURNS = "turns"  # kind of views


def choose_stream(
    config: TrainConfig,
    origin: Origin,
    plan: LossPlan,
    layout: BatchLayout,
    teacher: Network | None,
    place: Place,
) -> Stream:
    """The stream of a run. Raises BadOption for a cache without the quarter turns that a loss reads."""
    stream: Stream
    if plan.step_form == "generator":
        return NoiseStream(layout, origin.num_samples)
    if origin.cache is not None:
        if plan.turns:
            _check_turns(origin.cache, config.loss)
        stream = stored_stream(
            origin.cache,
            needs=() if teacher is not None else plan.needs,
            layout=layout,
            num_threads=config.threads,
            device_id=place.device_id,
            views=TURNS if plan.turns else None,
            crop=config.crop,
        )
    else:
        assert origin.source is not None
        stream = fresh_stream(
            origin.source,
            layout=layout,
            crop=origin.crop,
            augment=origin.augment,
            turns=plan.turns,
            num_threads=config.threads,
            device_id=place.device_id,
        )
    return stream if teacher is None else online(stream, teacher, plan.needs, place.device, amp=place.amp)


def _check_turns(cache: Cache, loss: str) -> None:
    kinds = sorted({views.kind for views in cache.manifest.views})
    if TURNS not in kinds:
        add = f"kdcache build --cache {cache.manifest.name} --views turns:8"
        raise BadOption(
            f"loss '{loss}' reads every image in four quarter turns; the cache has {', '.join(kinds)}",
            where=f"--loss {loss} --cache {cache.manifest.name}",
            fix=f"add them with '{add}', or use --data and --online",
        )
