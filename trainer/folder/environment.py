"""What a run was computed with: versions and device, for `environment.json`.

No user name, host name or path. The file ends in a seal; one of before there were seals has no "format".
"""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from kdcache.cache.errors import BadCache
from kdcache.cache.files.plain_json import MAX_BYTES, kind_of_value
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import opened_text, sealed_text
from kdcache.cache.networks.layout import CONTIGUOUS
from kdcache.cache.visible import shell_word
from kdcache.trainer.folder.atomic_file import write_text
from kdcache.trainer.stream.batch import CLASSES

FILE_NAME = "environment.json"
FORMAT = 2
_PACKAGES = (
    "kdcache",
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "accelerate",
    "zarr",
    "numpy",
    "torchmetrics",
    "faster-coco-eval",
)


def describe_environment(
    device: torch.device, *, world: int, memory_format: str = CONTIGUOUS
) -> dict[str, object]:
    """Versions, device and the settings that change bits: threads, memory format of the student, TF32,
    deterministic algorithms."""
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in (*_PACKAGES, _dali_name())},
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "world": world,
        "torch_threads": torch.get_num_threads(),
        "memory_format": memory_format,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def write_environment(run_dir: Path, environment: dict[str, object], stream: dict[str, object]) -> None:
    """`environment.json`: the environment, and the digests of what the stream reads."""
    table = {"environment": environment, "format": FORMAT, "stream": stream}
    write_text(run_dir / FILE_NAME, sealed_text(table))


def begun_generation(run_dir: Path) -> int | None:
    """The generation of the cache that a run began on; None for a run that has not begun, or reads no
    cache. Raises BadCache for a file that cannot be read."""
    then = begun_stream(run_dir)
    number = None if then is None else then.get("generation")
    return number if isinstance(number, int) else None


def refuse_other_stream(run_dir: Path, stream: dict[str, object]) -> None:
    """Raise BadCache when a resumed run would read other samples, views or targets than it began with.

    A run goes on with the generation of the cache that it began on, whatever was built since. Raises BadCache
    also for a file that cannot be read.
    """
    then = begun_stream(run_dir)
    if then is None:
        return
    now = json.loads(json.dumps(stream, default=str))
    if CLASSES not in then:  # a run of before they were kept
        now.pop(CLASSES, None)
    if then == now:
        return
    if then == {**now, CLASSES: then.get(CLASSES)}:
        raise BadCache(
            "the labels of the data would be read otherwise than when the run began: the names of the "
            "classes, or the values and colours that stand for them, are others",
            where=str(run_dir / FILE_NAME),
            fix="put the data's list of classes back as it was (classes.toml, where they have one); or start "
            "a new run (--run NAME)",
        )
    parts = sorted(k for k in {*then, *now} if then.get(k) != now.get(k))
    raise BadCache(
        f"the run began on other targets or views than are there now: {', '.join(parts)} differ",
        where=str(run_dir / FILE_NAME),
        fix="start a new run (--run NAME); this one can only continue on what it began with",
    )


def read_environment(run_dir: Path) -> dict[str, Any] | None:
    """What `write_environment` wrote: keys 'environment' and 'stream'; None for a run that has not begun.
    Raises BadCache for a file that cannot be read."""
    path = run_dir / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = read_regular(path, MAX_BYTES)
        table = opened_text(content, unsealed=None)
        stream = table["stream"]
        if not isinstance(stream, dict):
            raise ValueError(f"'stream' is {kind_of_value(stream)}")
    except (ValueError, KeyError) as error:
        why = "it describes no stream" if isinstance(error, KeyError) else str(error)
        raise BadCache(
            f"what the run began with cannot be read: {why}",
            where=str(path),
            fix="put the file back as it was; or go on without comparing what the run reads now with what it "
            f"began with: rm {shell_word(str(path))}",
        ) from error
    return table


def begun_stream(run_dir: Path) -> dict[str, Any] | None:
    """What the stream of a run read when it began; None where nothing says it."""
    table = read_environment(run_dir)
    return None if table is None else dict(table["stream"])


def began_with(run_dir: Path) -> dict[str, Any]:
    """The environment of a run that has begun; {} for any other. Raises BadCache for a file that cannot be
    read."""
    table = read_environment(run_dir)
    environment = None if table is None else table.get("environment")
    return environment if isinstance(environment, dict) else {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _dali_name() -> str:
    """DALI's distribution carries the CUDA version in its name."""
    names = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
    return next((name for name in names if _version(name) is not None), names[0])
