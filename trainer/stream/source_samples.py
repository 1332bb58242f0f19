"""A source's original files as encoded samples: what fresh views and evaluation read."""

import numpy as np

from kdcache.cache.sources.contract import Source
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_of
from kdcache.trainer.stream.batch import SampleSource

LABEL_MEMO_BYTES = 1 << 30  # 1 GiB: every label of the usual datasets; encoded PNGs are a few kB each


class SourceSamples:
    """Samples of a Source by index. Image bytes come from disk each time; labels and sizes are memoised.

    Labels are kept because converting one (palette, shifts, id maps) costs a decode and an encode.
    """

    def __init__(self, source: Source, *, label_memo_bytes: int = LABEL_MEMO_BYTES) -> None:
        self.source = source
        self.task: Task = source.task
        self.num_samples = len(source.keys)
        self.invalid = np.zeros(0, dtype=np.int64)
        self._truth = task_of(source.task).truth
        self._memo: dict[int, np.ndarray] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._room = label_memo_bytes

    def image(self, index: int) -> np.ndarray:
        """The encoded image as it lies on disk, 1-D uint8."""
        return np.frombuffer(self.source.image_bytes(index), dtype=np.uint8)

    def truth(self, index: int) -> np.ndarray:
        """As `Truth.parse` of the source's task gives it."""
        if index in self._memo:
            return self._memo[index]
        truth = self._truth.parse(self.source.label_bytes(index))
        if truth.nbytes <= self._room:
            self._room -= truth.nbytes
            self._memo[index] = truth
        return truth

    def column(self, name: str) -> np.ndarray:
        """(num_samples,) int64: one of the task's `Truth.columns`, of every sample."""
        # Sizes are read where columns say anything of pixels; headers of a whole data set take seconds.
        size_of = self.size if self._truth.counts else lambda index: (0, 0)
        encoded = ((self.source.label_bytes(index), size_of(index)) for index in range(self.num_samples))
        return np.array([self._truth.column_values(*one)[name] for one in encoded], dtype=np.int64)

    def key(self, index: int) -> str:
        return self.source.keys[index]

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels, from the file's header. Raises BadSample when it is not an image."""
        if index not in self._sizes:
            self._sizes[index] = self.source.size(index)
        return self._sizes[index]


def as_samples(source: Source | SampleSource) -> SampleSource:
    """A Source wrapped, anything that already serves samples by index (a Cache) as it is."""
    return source if isinstance(source, SampleSource) else SourceSamples(source)
