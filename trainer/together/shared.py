"""One stream for several runs: pixels, truths and targets are read, copied and decoded once.

The stream reads what any of the runs reads; each run is handed the targets of its own losses. A run must not
write into what the others read after it: torch counts the changes of a tensor, so that is seen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from kdcache.losses.plan.plan import LossPlan
from kdcache.trainer.steps.contract import Shareable
from kdcache.trainer.stream.batch import Batch, Stream
from kdcache.trainer.stream.wrapped import WrappedStream


class SharedStream(WrappedStream):
    """What several runs read. See `Stream`; `failed` is the error that ended it."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._answers: dict[int, dict[str, Tensor]] = {}  # micro step -> targets
        self._versions: dict[
            int, list[tuple[Tensor, int]]
        ] = {}  # micro step -> tensors as they were given out
        self.failed: Exception | None = None

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        batches = self._stream.run(start_micro_step)
        while True:
            try:
                batch = next(batches)
            except Exception as error:
                self.failed = error
                raise
            self._forget(batch.micro_step)
            self._watch(batch.micro_step, _tensors(batch))
            yield batch

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Decoded when the first run asks."""
        answers = self._answers.get(batch.micro_step)
        if answers is None:
            answers = self._answers[batch.micro_step] = self._stream.targets(batch)
            self._watch(batch.micro_step, answers.values())
        return answers

    def changed(self) -> bool:
        """Whether a run wrote into what it was given."""
        given = (one for each in self._versions.values() for one in each)
        return any(tensor._version != version for tensor, version in given)

    def close(self) -> None:
        self._answers.clear()
        self._versions.clear()
        super().close()

    def _watch(self, micro_step: int, tensors: Iterable[Tensor]) -> None:
        self._versions.setdefault(micro_step, []).extend((one, one._version) for one in tensors)

    def _forget(self, micro_step: int) -> None:
        """All of earlier optimizer steps: every run has made them."""
        begun = micro_step - micro_step % self.layout.accumulation
        for table in (self._answers, self._versions):
            for old in [one for one in table if one < begun]:
                del table[old]


def _tensors(batch: Batch) -> Iterator[Tensor]:
    yield from (batch.images_BHWC, batch.truth, batch.samples_B)
    yield from (part for parts in batch.parts.values() for part in parts.values())
    if batch.mixed is not None:
        yield from batch.mixed


class OwnView(WrappedStream):
    """A run's own stream, whose batches and targets come from a shared one. See `Stream`."""

    def __init__(self, own: Stream, shared: SharedStream, plan: LossPlan) -> None:
        super().__init__(own)
        self._shared = shared
        self._needs = [need.name for need in plan.needs]

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        return self._shared.run(start_micro_step)

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        if not self._needs:
            return {}
        answers = self._shared.targets(batch)
        return {name: answers[name] for name in self._needs}


def shared_stream(readers: Sequence[Shareable]) -> SharedStream:
    """What all of `readers` read, which have the same pixels."""
    terms = tuple(term for one in readers for term in one.plan.terms)
    return SharedStream(readers[0].open(replace(readers[0].plan, terms=terms)))
