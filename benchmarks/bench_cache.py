"""Caches and networks for benchmarks, in a temporary home: what the commands make of the same options."""

import sys
from pathlib import Path

import torch

from kdcache.cache.build.build import BuildEvents, build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.sources.table import open_source
from kdcache.cache.trust import trust

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
trust("wide_teacher")
DRAWN_SIZE = (360, 480)  # pixels, CamVid's


def data_spec(given: str | None, work: Path, num_images: int) -> str:
    """`given`, or a folder of drawn images of CamVid's size (they decode faster than photographs)."""
    if given:
        return given
    from tiny_folder import draw_folder  # on the path since the line above

    return f"folder:{draw_folder(work / 'drawn', num_images, sizes=(DRAWN_SIZE,))}"


def wide_cache(
    work: Path, data: str, *, views: str, crop: tuple[int, int], taps: str = "stage4=int8"
) -> Cache:
    """A cache of the wide teacher: the bytes of real features for the price of one convolution."""
    options = BuildOptions(
        runs_dir=work / "runs", caches_dir=work / f"caches-{views.replace(':', '')}", data=data, views=views,
        crop=crop, taps=tuple(parse_tap(t) for t in taps.split(",")), teacher="wide_teacher:make",
    )  # fmt: skip
    return open_cache(build_cache(options).root)


def make_run(work: Path, name: str, network: str, data: str, crop: tuple[int, int], stride: int) -> Network:
    """A run folder under `work`/runs whose network has random weights: times do not depend on them."""
    source = open_source(data, "train")
    torch.manual_seed(0)  # of other weights a deep network's embedding now and then leaves the range of fp16
    made = build_network(network, task=source.task, num_classes=len(source.class_names), output_stride=stride)
    card = RunCard(
        network={}, data=f"{source.name}:{source.root}", class_names=tuple(source.class_names), crop=crop,
        output_stride=stride,
    )  # fmt: skip
    save_run_network(work / "runs" / name, made, card)
    return made


def build_from_run(
    work: Path, name: str, *, caches: str, views: str, batch_size: int, events: BuildEvents | None = None
) -> Path:
    """`kdcache build --teacher NAME` into its own folder of caches; returns the cache."""
    options = BuildOptions(
        runs_dir=work / "runs", caches_dir=work / caches, teacher=name, views=views, batch_size=batch_size
    )
    return build_cache(options, events).root


def parse_pair(text: str) -> tuple[int, int]:
    """'176,240' -> (176, 240)."""
    height, _, width = text.partition(",")
    return int(height), int(width or height)
