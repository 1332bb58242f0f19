"""Where a run's pixels, classes and sizes come from: a dataset (fresh views) or a cache (stored views).

The task comes from there too, and is never asked of the user.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import refuse_stride
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.resolve import member_names, run_folder
from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.find import caches_dir, runs_dir, stored_cache
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.recipe import parse_recipe
from kdcache.losses.contract import Facts
from kdcache.trainer.stream.options import StreamOptions
from kdcache.trainer.stream.source_samples import SourceSamples


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """Where pixels, classes and sizes come from: a source or a cache."""

    source: Source | None
    cache: Cache | None
    task: Task
    spec: str  # 'camvid:DIR', for validation and for the run's card
    dataset: str  # name of the preset
    class_names: tuple[str, ...]
    crop: tuple[int, int]  # (h, w) pixels that networks see
    augment: str  # recipe of the views; '' is the task's default
    output_stride: int | None  # None: the network's own, where the task has no other
    keep_empty: bool = False  # train also on samples from which nothing can be learnt

    @property
    def num_samples(self) -> int:
        if self.cache is not None:
            return int(self.cache.num_samples - len(self.cache.without(self.keep_empty)))
        assert self.source is not None
        return len(self.source.keys)

    def facts(
        self,
        *,
        batch_size: int = 1,
        classifier_KD: Tensor | None = None,
        teacher: NetworkConfig | None = None,
    ) -> Facts:
        """What losses may know of the data and of the teacher before step 0; `batch_size` is the global one.

        `classifier_KD` is a live teacher's; without one it is the cache's. Reads every truth once where a
        sample has one class.
        """
        count = self.cache.num_samples if self.cache is not None else self.num_samples
        truth, labels_N = task_of(self.task).truth, None
        if truth.one_class:
            if classifier_KD is None and self.cache is not None:
                classifier_KD = self.cache.classifier()
            (column,) = truth.columns
            labels_N = torch.from_numpy(self._column(column))
        return self.classes(teacher)._replace(
            task=self.task,
            num_classes=len(self.class_names),
            num_samples=count,
            labels_N=labels_N,
            classifier_KD=classifier_KD,
            steps_per_epoch=self.num_samples / batch_size,
            input_size=self.crop,
        )

    def classes(self, teacher: NetworkConfig | None) -> Facts:
        """What the data and the teacher tell apart, which is known before anything is read; nothing else."""
        if teacher is None:
            return Facts(class_names=self.class_names)
        theirs = teacher.classes_beside(self.class_names)
        return Facts(
            class_names=self.class_names, teacher_classes=theirs, num_teacher_classes=teacher.num_classes
        )

    def _column(self, name: str) -> np.ndarray:
        """(num_samples,) int64: one of the columns of the task's truth."""
        if self.cache is not None:
            return self.cache.column(name)
        assert self.source is not None
        return SourceSamples(self.source).column(name)


def _live_stride(teacher: str | None, home: Path, default: int | None) -> int | None:
    """The stride of the live teacher's run, so that its maps and the student's have one size; or `default`.

    Of several teachers the largest, which is what their ensemble says and what a cache of them records.
    Raises Missing for a run that has no network yet.
    """
    if teacher is None or default is None:
        return default
    runs = runs_dir(home)
    folders = [run_folder(member, runs) for member in member_names(teacher, runs)]
    return max(read_run_card(folder).output_stride if folder else default for folder in folders)


def open_run_source(
    options: StreamOptions, home: Path, *, output_stride: int | None, generation: int | None = None
) -> RunSource:
    """Open what `resolve_run_source` chose. Whether a cache has views of that crop is the stream's to say.

    `output_stride` is what was asked of the student; None: nothing was. `generation` is that of the cache;
    None: the newest.
    """
    if options.data:
        return _open_data(options, options.data, home, output_stride)
    cache = open_cache(stored_cache(options.cache, caches_dir(home)), generation=generation)
    manifest = cache.manifest
    _check_keeping(options, cache.task)
    return RunSource(
        source=None,
        cache=cache,
        task=cache.task,
        spec=manifest.data_spec,
        dataset=str(manifest.data["name"]),
        class_names=manifest.class_names,
        crop=options.crop or manifest.crop,
        augment=" + ".join(dict.fromkeys(views.augment for views in manifest.views if views.augment)),
        output_stride=_stride(output_stride, cache.task, lambda default: manifest.output_stride),
        keep_empty=options.keep_empty,
    )


def _open_data(options: StreamOptions, data: str, home: Path, output_stride: int | None) -> RunSource:
    """The train split of a data set."""
    source = open_source(data, "train", keep_empty=options.keep_empty)
    _check_keeping(options, source.task)
    source.refuse_unusable()  # a build reads every sample before the first step, a run reads none
    crop = options.crop or source.default_crop
    task_of(source.task).check_input(crop, where=f"--crop {crop[0]},{crop[1]}")
    return RunSource(
        source=source,
        cache=None,
        task=source.task,
        spec=data,
        dataset=source.name,
        class_names=tuple(source.class_names),
        crop=crop,
        augment=_recipe(options.augment, source),
        output_stride=_stride(
            output_stride, source.task, lambda default: _live_stride(options.teacher, home, default)
        ),
        keep_empty=options.keep_empty,
    )


def _check_keeping(options: StreamOptions, task: Task) -> None:
    """Raises BadOption for `--keep-empty` where no sample is empty."""
    if options.keep_empty and not task_of(task).truth.counts:
        raise BadOption(
            f"--keep-empty: every sample of {task} has something to learn",
            where="--keep-empty",
            fix="leave --keep-empty out",
        )


def _recipe(given: str | None, source: Source) -> str:
    """The canonical text of --augment, else the source's own recipe. Raises BadOption."""
    return source.augment if given is None else parse_recipe(given, task_of(source.task).recipes).text


def _stride(asked: int | None, task: Task, inherited: Callable[[int | None], int | None]) -> int | None:
    """The stride that is asked for, else what `inherited` makes of the task's default; None where a task's
    networks keep their own."""
    refuse_stride(asked, task)
    rules = task_of(task).networks
    if asked is not None or rules.no_stride:
        return asked
    return inherited(rules.default_stride)
