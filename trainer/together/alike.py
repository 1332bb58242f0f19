"""Which runs read the same batches: by their options before anything is opened, then by what their streams
say of themselves.

The order and the pixels of a batch come from the data or the cache with its generation, the views, the crop,
the seed, the batch size and its division, nothing else: losses, students, rates and lengths may differ. Runs
of other seeds have other batches.
"""

import json
from dataclasses import asdict

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.stream.batch import Stream

# Options that decide what a batch is, or of which one process has one value.
_ALIKE = (
    "data",
    "cache",
    "crop",
    "augment",
    "keep_empty",
    "batch_size",
    "accumulate",
    "seed",
    "device",
    "amp",
)
_TARGET = "tap/"  # begins the names of entries that are targets, in what a stream describes
_PER_RUN = "tensorboard"  # the tracker that can be open several times in a process


def alone_because(config: TrainConfig) -> str:
    """Why a run shares its stream with no other; '' for one that may."""
    if config.online:
        return "its targets come from a live teacher"
    if config.compile:
        return "torch.compile keeps one state per process"
    if others := [name for name in config.trackers if name != _PER_RUN]:
        return f"{', '.join(others)} follows one run per process"
    return ""


def options_key(config: TrainConfig) -> tuple[object, ...]:
    """Equal for runs that may turn out to read the same batches."""
    return tuple(getattr(config, name) for name in _ALIKE)


def pixels_of(stream: Stream, config: TrainConfig, *, turns: bool) -> str:
    """Equal for streams that give the same batches but for the targets. `turns`: four rows of every image."""
    said = stream.describe()
    entries = said.get("entries")
    if isinstance(entries, dict):
        said = {**said, "entries": {k: v for k, v in entries.items() if not k.startswith(_TARGET)}}
    told: dict[str, object] = {
        "options": options_key(config),
        "layout": asdict(stream.layout),
        "turns": turns,
        "said": said,
    }
    return json.dumps(told, sort_keys=True, default=str)
