"""What a run was computed with: versions and device, for `environment.json`.

No user name, host name or path.
"""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from kdcache.cache.errors import BadCache
from kdcache.cache.files.plain_json import kind_of_value, read_json_object
from kdcache.cache.system import GONE, touching
from kdcache.trainer.folder.atomic_file import write_text

FILE_NAME = "environment.json"
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


def describe_environment(device: torch.device, *, world: int) -> dict[str, object]:
    """Versions, device and the settings that change bits: threads, TF32, deterministic algorithms."""
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
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def write_environment(run_dir: Path, environment: dict[str, object], stream: dict[str, object]) -> None:
    """`environment.json`: the environment, and the digests of what the stream reads."""
    table = {"environment": environment, "stream": stream}
    write_text(run_dir / FILE_NAME, json.dumps(table, indent=1, sort_keys=True, default=str) + "\n")


def begun_generation(run_dir: Path) -> int | None:
    """The generation of the cache that a run began on; None for a run that has not begun, or reads no
    cache."""
    path = run_dir / FILE_NAME
    try:
        with touching(f"'{FILE_NAME}' cannot be read", path, passing=GONE):
            number = read_json_object(path)["stream"]["generation"]
    except (*GONE, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def refuse_other_stream(run_dir: Path, stream: dict[str, object]) -> None:
    """Raise BadCache when a resumed run would read other samples, views or targets than it began with.

    A run goes on with the generation of the cache that it began on, whatever was built since.
    """
    path = run_dir / FILE_NAME
    if not path.is_file():
        return
    try:
        then = read_json_object(path)["stream"]
        if not isinstance(then, dict):
            raise ValueError(f"'stream' is {kind_of_value(then)}")
    except (OSError, ValueError, KeyError) as error:
        raise BadCache(
            f"what the run began on cannot be read: {error}",
            where=str(path),
            fix="start a new run (--run NAME); this one can only continue on what it began with",
        ) from error
    now = json.loads(json.dumps(stream, default=str))
    if then == now:
        return
    parts = sorted(k for k in {*then, *now} if then.get(k) != now.get(k))
    raise BadCache(
        f"the run began on other targets or views than are there now: {', '.join(parts)} differ",
        where=str(path),
        fix="start a new run (--run NAME); this one can only continue on what it began with",
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _dali_name() -> str:
    """DALI's distribution carries the CUDA version in its name."""
    names = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
    return next((name for name in names if _version(name) is not None), names[0])
