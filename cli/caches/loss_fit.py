"""Which losses fit a cache: of one that is there, for `kdcache show`, and of one to be built, for `--for`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig, grid_of
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.sources.contract import Source
from kdcache.cache.spec import TensorSpec, members_of
from kdcache.cache.tasks.table import task_of
from kdcache.losses.contract import Facts
from kdcache.losses.plan.fit import Fit, fit_of
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.losses.plan.table import TASK, loss_names


def served(cache: Cache) -> Iterator[tuple[str, Fit]]:
    """Losses of the cache's task of which every need is kept, or is the mean of what is kept of several
    teachers, and whose views are there, with how they fit. One that invents its images asks none."""
    m, truth = cache.manifest, task_of(cache.task).truth
    labels_N = torch.from_numpy(cache.column(truth.columns[0])) if truth.one_class else None
    classifier_KD = cache.classifier() if truth.one_class else None
    facts = _facts(m, cache.num_samples, labels_N, classifier_KD)
    for name in loss_names():
        with suppress(BadOption):  # a method of another task
            plan = _plan(name, m)
            specs = _specs(plan, m)
            asks = name != TASK and plan.step_form != "generator" and (not plan.turns or _turned(m))
            if asks and specs is not None:
                yield name, _fit(plan, specs, m, facts)


class Fitting:
    """A check of a cache that is about to be built for these losses. It raises BadOption for one that no
    student could read from it, and keeps what a student must have for the others."""

    def __init__(self, losses: Sequence[str]) -> None:
        self._losses = losses
        self.notes: tuple[str, ...] = ()  # once it was called: a line a loss, of those that ask something

    def __call__(self, manifest: Manifest, source: Source, network: Network) -> None:
        truth, labels_N = task_of(source.task).truth, None
        if truth.one_class:
            column = truth.columns[0]
            encoded = (source.label_bytes(index) for index in range(len(source.keys)))
            labels_N = torch.tensor([truth.column_values(one, (0, 0))[column] for one in encoded])
        facts = _facts(manifest, len(source.keys), labels_N, network.classifier_weight())
        asked = {name: _asked(name, manifest, facts) for name in dict.fromkeys(self._losses)}
        self.notes = tuple(f"{name} needs a student of {need}" for name, need in asked.items() if need)


def _asked(name: str, manifest: Manifest, facts: Facts) -> str:
    """What a student must have for a loss, 'as many channels and maps of the same size'; '' where any will
    do. Raises BadOption where none will."""
    plan = _plan(name, manifest)
    if plan.turns and not _turned(manifest):
        raise BadOption(
            f"'{name}' reads every image in four quarter turns, and this cache has no such views",
            where=f"--for {name}",
            fix="add --views turns:K, such as --views turns:2",
        )
    specs = _specs(plan, manifest)
    fit = Fit() if specs is None else _fit(plan, specs, manifest, facts)
    if fit.refusal is not None:
        raise BadOption(
            f"no student could be trained with '{name}' on this cache: {fit.refusal.what}",
            where=f"--for {name}, {fit.refusal.where}",
            fix=f"{fit.refusal.fix}; or leave '{name}' out of --for",
        )
    return " and ".join(fit.student)


def lacking(losses: Sequence[str], manifest: Manifest) -> tuple[str, ...]:
    """Which of these losses read something that a cache does not keep. Raises BadOption for a loss of another
    task, and for options that it does not have."""
    return tuple(name for name in losses if _specs(_plan(name, manifest), manifest) is None)


def _turned(manifest: Manifest) -> bool:
    return any(views.kind == "turns" for views in manifest.views)


def _plan(name: str, manifest: Manifest) -> LossPlan:
    grid = _grid(manifest)
    plan = parse_losses(name, preset=None, task=manifest.task)
    return plan.with_levels({}, {} if grid is None else grid.groups)


def _grid(manifest: Manifest) -> DenseGrid | None:
    return grid_of(_teacher(manifest))


def _teacher(manifest: Manifest) -> NetworkConfig:
    return NetworkConfig.from_dict(manifest.network, where=f"manifest of cache {manifest.name}")


def _fit(plan: LossPlan, specs: Mapping[str, TensorSpec], manifest: Manifest, facts: Facts) -> Fit:
    grid = _grid(manifest)
    return fit_of(plan.with_levels({} if grid is None else grid.groups, {}), specs, facts=facts, grid=grid)


def _specs(plan: LossPlan, manifest: Manifest) -> dict[str, TensorSpec] | None:
    """Of every need at the crop, a mean's is its members'; None where one is not kept."""
    targets = manifest.tap_names
    names = {n.name: ((n.name,) if n.name in targets else members_of(targets, n.name)) for n in plan.needs}
    if not all(names.values()):
        return None
    return {need: manifest.tap(members[0]).spec(*manifest.crop) for need, members in names.items()}


def _facts(manifest: Manifest, count: int, labels_N: Tensor | None, classifier_KD: Tensor | None) -> Facts:
    """What a run tells its losses before step 0."""
    teacher = _teacher(manifest)
    return Facts(
        task=manifest.task,
        num_classes=len(manifest.class_names),
        num_samples=count,
        labels_N=labels_N,
        classifier_KD=None if classifier_KD is None else classifier_KD.detach().float(),
        input_size=manifest.crop,
        class_names=manifest.class_names,
        teacher_classes=teacher.classes_beside(manifest.class_names),
        num_teacher_classes=teacher.num_classes,
    )
