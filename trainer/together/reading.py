"""What a run reads, and with which others it may share it."""

from functools import partial

from kdcache.cache.networks.network import Network
from kdcache.losses.plan.plan import LossPlan
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.ranks import Ranks
from kdcache.trainer.steps.contract import Shareable
from kdcache.trainer.stream.batch import BatchLayout, Stream
from kdcache.trainer.stream.choose import choose_stream
from kdcache.trainer.stream.run_source import RunSource
from kdcache.trainer.together.alike import pixels_of


def layout_of(config: TrainConfig, ranks: Ranks) -> BatchLayout:
    return BatchLayout(
        seed=config.seed,
        global_batch=config.batch_size,
        world=ranks.world,
        rank=ranks.rank,
        accumulation=config.accumulate,
    )


def open_stream(
    config: TrainConfig, run_source: RunSource, plan: LossPlan, teacher: Network | None, ranks: Ranks
) -> tuple[Stream, Shareable | None]:
    """The stream of a run, and what others may read with it; None beside a live teacher."""
    opened = partial(_opened, config, run_source, teacher, ranks)
    stream = opened(plan)
    if teacher is not None:
        return stream, None
    pixels = pixels_of(stream, config, turns=plan.turns)
    return stream, Shareable(pixels=pixels, plan=plan, open=opened)


def _opened(
    config: TrainConfig, run_source: RunSource, teacher: Network | None, ranks: Ranks, plan: LossPlan
) -> Stream:
    layout = layout_of(config, ranks)
    return choose_stream(config, run_source, plan, layout, teacher, ranks, num_threads=config.threads)
