"""A live teacher behind any stream: the same batches, targets computed from their pixels instead of read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcache.cache.codecs.reduction import load_reduction
from kdcache.cache.errors import unknown
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.spec import Need
from kdcache.trainer.stream.batch import Batch, Stream
from kdcache.trainer.stream.mean_targets import mean_of, sources_of
from kdcache.trainer.stream.wrapped import WrappedStream


class OnlineStream(WrappedStream):
    """`stream` with a teacher in memory: in evaluation mode, without gradient. See `Stream`."""

    def __init__(
        self,
        stream: Stream,
        teacher: Network,
        needs: Sequence[Need],
        device: torch.device | str,
        *,
        amp: torch.dtype | None = None,
    ) -> None:
        """`amp` is the autocast type of the teacher's forward; the targets are float32 either way.

        Raises BadOption for a need whose tap the teacher lacks.
        """
        self._sources = sources_of(teacher.taps, [need.tap for need in needs])
        self._taps = tuple(dict.fromkeys(tap for taps in self._sources.values() for tap in taps))
        for tap in self._taps:
            if tap not in teacher.taps:
                raise unknown("tap", tap, teacher.taps, where=f"live teacher {teacher.name}")
        super().__init__(stream)
        self._device = torch.device(device)
        self._teacher = teacher.to(self._device).eval().requires_grad_(False)
        self._needs = tuple(needs)
        self._reductions = {n.name: load_reduction(n.reduction) for n in needs if n.reduction}
        self._amp = amp
        self._digest = weights_digest(self._teacher)

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """The needs' values on the batch's pixels; one forward. Copied to the teacher's device."""
        if not self._taps:
            return {}
        self._teacher.eval()  # a trainer that calls train() on everything must not change the targets
        images_BHWC = batch.images_BHWC.to(self._device, non_blocking=True)
        with torch.no_grad(), torch.autocast(self._device.type, self._amp, enabled=self._amp is not None):
            values = self._teacher(images_BHWC, self._taps)
            targets: dict[str, Tensor] = {}
            for need in self._needs:
                reduce = self._reductions.get(need.name)
                read = {t: reduce(values[t]) if reduce else values[t] for t in self._sources[need.tap]}
                targets |= mean_of(read, {need.name: self._sources[need.tap]})
        return {name: value.float() for name, value in targets.items()}

    def describe(self) -> dict[str, object]:
        precision = "fp32" if self._amp is None else str(self._amp).removeprefix("torch.")
        return super().describe() | {
            "targets": "online",
            "teacher": self._teacher.name,
            "weights": self._digest,
            "amp": precision,
        }
