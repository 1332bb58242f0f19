"""Where a run's pixels, classes and sizes come from: a dataset (fresh views) or a cache (stored views)."""

from dataclasses import dataclass, replace
from pathlib import Path

from kdcache.cache.cache import Cache, open_cache
from kdcache.cache.errors import BadOption
from kdcache.cache.networks.run_folder import read_run_card
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.home import absolute_spec, cache_label, find_cache, runs_dir

DEFAULT_OUTPUT_STRIDE = 8


def resolve_origin(config: TrainConfig, home: Path) -> TrainConfig:
    """Options with `--data` made absolute, or `--cache` set to the cache that is meant.

    Raises Missing, BadOption.
    """
    if config.data:
        return replace(config, data=absolute_spec(config.data))
    if config.views == "fresh":
        raise BadOption("--views fresh without --data", where="--views fresh", fix="add --data NAME:FOLDER")
    return replace(config, cache=cache_label(home, find_cache(home, config.cache)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where pixels, classes and sizes come from: a source or a cache."""

    source: Source | None
    cache: Cache | None
    spec: str  # 'camvid:DIR', for validation and for the run's card
    dataset: str  # name of the preset
    class_names: tuple[str, ...]
    crop: tuple[int, int]
    output_stride: int

    @property
    def num_samples(self) -> int:
        if self.cache is not None:
            return int(self.cache.num_samples - len(self.cache.invalid))
        assert self.source is not None
        return len(self.source.keys)


def _live_stride(config: TrainConfig, home: Path) -> int:
    """The stride of the live teacher's run, so that its maps and the student's have one size."""
    folder = runs_dir(home) / config.teacher if config.teacher else None
    if folder is None or not (folder / "network.json").is_file():
        return DEFAULT_OUTPUT_STRIDE
    return read_run_card(folder).output_stride


def open_origin(config: TrainConfig, home: Path) -> Origin:
    """Open what `resolve_origin` chose. Whether a cache has views of that crop is the stream's to say."""
    if config.data:
        source = open_source(config.data, "train")
        return Origin(
            source=source,
            cache=None,
            spec=config.data,
            dataset=source.name,
            class_names=tuple(source.class_names),
            crop=config.crop or source.default_crop,
            output_stride=config.output_stride or _live_stride(config, home),
        )
    cache = open_cache(find_cache(home, config.cache))
    manifest = cache.manifest
    return Origin(
        source=None,
        cache=cache,
        spec=manifest.data_spec,
        dataset=str(manifest.data["name"]),
        class_names=manifest.class_names,
        crop=config.crop or manifest.crop,
        output_stride=config.output_stride or manifest.output_stride,
    )
