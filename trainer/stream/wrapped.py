"""What streams around another stream have in common: they pass on whatever they do not change."""

from collections.abc import Iterator

from kdcache.trainer.stream.batch import Batch, BatchLayout, Stream


class WrappedStream:
    """All of `Stream` but the targets, as `stream` gives it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def layout(self) -> BatchLayout:
        return self._stream.layout

    @property
    def pixels(self) -> str:
        return self._stream.pixels

    @property
    def num_samples(self) -> int:
        return self._stream.num_samples

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        return self._stream.run(start_micro_step)

    def key(self, sample: int) -> str:
        return self._stream.key(sample)

    def close(self) -> None:
        self._stream.close()

    def describe(self) -> dict[str, object]:
        return self._stream.describe()
