"""Where a run's pixels, classes and sizes come from: a dataset (fresh views) or a cache (stored views).

The task comes from there too, and is never asked of the user.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import check_stride
from kdcache.cache.networks.resolve import member_names, run_folder
from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.spec import CLASSIFICATION, Task
from kdcache.cache.views.recipe import parse_recipe
from kdcache.losses.contract import Facts
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.home import absolute_spec, cache_label, find_cache, runs_dir
from kdcache.trainer.stream.source_samples import SourceSamples

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
    task: Task
    spec: str  # 'camvid:DIR', for validation and for the run's card
    dataset: str  # name of the preset
    class_names: tuple[str, ...]
    crop: tuple[int, int]  # (h, w) pixels that networks see
    augment: str  # recipe of the views; '' is the task's default
    output_stride: int | None  # None: the network's own, for classification

    @property
    def num_samples(self) -> int:
        if self.cache is not None:
            return int(self.cache.num_samples - len(self.cache.invalid))
        assert self.source is not None
        return len(self.source.keys)

    def facts(self, *, batch_size: int = 1, classifier_KD: Tensor | None = None) -> Facts:
        """What losses may know of the data before step 0; `batch_size` is the global one.

        `classifier_KD` is a live teacher's; without one it is the cache's. Reads every label of a
        classification dataset once.
        """
        count = self.cache.num_samples if self.cache is not None else self.num_samples
        labels_N = None
        if self.task == CLASSIFICATION:
            if classifier_KD is None and self.cache is not None:
                classifier_KD = self.cache.classifier()
            labels_N = torch.from_numpy(self._class_labels()).to(torch.int64)
        return Facts(
            task=self.task,
            num_classes=len(self.class_names),
            num_samples=count,
            labels_N=labels_N,
            classifier_KD=classifier_KD,
            steps_per_epoch=self.num_samples / batch_size,
            input_size=self.crop,
        )

    def _class_labels(self) -> np.ndarray:
        """(num_samples,) int64, -1 where a sample is invalid."""
        if self.cache is not None:
            return self.cache.class_labels()
        assert self.source is not None
        return SourceSamples(self.source).class_labels()


def _live_stride(config: TrainConfig, home: Path) -> int:
    """The stride of the live teacher's run, so that its maps and the student's have one size.

    Of several teachers the largest, which is what their ensemble says and what a cache of them records.
    Raises Missing for a run that has no network yet.
    """
    if config.teacher is None:
        return DEFAULT_OUTPUT_STRIDE
    runs = runs_dir(home)
    folders = [run_folder(member, runs) for member in member_names(config.teacher, runs)]
    return max(read_run_card(folder).output_stride if folder else DEFAULT_OUTPUT_STRIDE for folder in folders)


def open_origin(config: TrainConfig, home: Path) -> Origin:
    """Open what `resolve_origin` chose. Whether a cache has views of that crop is the stream's to say."""
    if config.data:
        source = open_source(config.data, "train")
        return Origin(
            source=source,
            cache=None,
            task=source.task,
            spec=config.data,
            dataset=source.name,
            class_names=tuple(source.class_names),
            crop=config.crop or source.default_crop,
            augment=_recipe(config.augment, source),
            output_stride=_stride(config, source.task, lambda: _live_stride(config, home)),
        )
    cache = open_cache(find_cache(home, config.cache))
    manifest = cache.manifest
    return Origin(
        source=None,
        cache=cache,
        task=cache.task,
        spec=manifest.data_spec,
        dataset=str(manifest.data["name"]),
        class_names=manifest.class_names,
        crop=config.crop or manifest.crop,
        augment=" + ".join(dict.fromkeys(views.augment for views in manifest.views if views.augment)),
        output_stride=_stride(config, cache.task, lambda: manifest.output_stride),
    )


def _recipe(given: str | None, source: Source) -> str:
    """The canonical text of --augment, else the source's own recipe. Raises BadOption."""
    return source.augment if given is None else parse_recipe(given, task=source.task).text


def _stride(config: TrainConfig, task: Task, inherited: Callable[[], int]) -> int | None:
    check_stride(config.output_stride, task)
    if config.output_stride is not None or task == CLASSIFICATION:
        return config.output_stride
    return inherited()
