"""A reader under fire, of faults.py: builders update, grow, repair and die beside a reader that believes
nothing.

The reader opens the newest generation again and again, reads every living row, makes its pixels as a training
run does, which compares them with their digest, runs the teacher on them, and compares: a target that is not
the teacher's answer to that image is a wrong pair. Damage comes in place, also to files that the reader has
checked and mapped already: what the pixels show is counted as refused, as a run would end there.
"""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cache_scene import Scene, built_scene, damage
from faults_compact import disturb
from faults_crash import in_child

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions
from kdcache.cache.errors import KdError
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.rows import pixel_feed
from kdcache.trainer.stream.pixel_check import PassingPixels

SECONDS, SMALL_SECONDS = 300.0, 8.0


def fire_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for target_format in ("zarr", "webdataset"):
        yield target_format, partial(under_fire, target_format, SMALL_SECONDS if small else SECONDS)


def under_fire(target_format: str, seconds: float) -> dict[str, Any]:
    root = Path(tempfile.mkdtemp(prefix="kdcache-fire-"))
    scene = built_scene(root / "scene", target_format)
    tally = root / "builders"
    reader, pid = os.getpid(), os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        _fire(scene, tally, reader)
        os._exit(0)
    teacher = build_network("tiny_teacher:make", task="segmentation", num_classes=3).eval()
    outcome = {"rows": 0, "wrong": 0, "refused": 0, "opened": 0}
    end_s = time.monotonic() + seconds
    try:
        while time.monotonic() < end_s:
            _read_all(scene.cache, teacher, outcome)
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    killed, ended, refused = (tally.read_text().count(word) for word in "kef")
    outcome |= {"builders killed": killed, "builders ended": ended, "builders refused": refused}
    if outcome["wrong"]:
        outcome |= {"failed": 1, "silent": outcome["wrong"]}
    return outcome


def _fire(scene: Scene, tally: Path, reader: int) -> None:
    """Builders for as long as the reader lives, of which every second one dies at a random moment."""
    draw, number = random.Random(1), -1
    while os.getppid() == reader:
        number += 1
        disturb(scene, draw, number)
        options = scene.options(update=True)
        if number % 5 == 4:
            damage(draw.choice(sorted((scene.cache / "samples").glob("*.tar"))))  # the reader is refused
            options = scene.options(update=True, repair=True)
        status = _builder(options, draw.random() if number % 2 else None)
        with tally.open("a") as file:
            file.write("k" if status == -signal.SIGKILL else "f" if status else "e")


def _builder(options: BuildOptions, die_after_s: float | None) -> int:
    def work() -> None:
        if die_after_s is not None:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, die_after_s / 3)
        build_cache(options)

    return in_child(work)


def _read_all(root: Path, teacher: Network, outcome: dict[str, int]) -> None:
    """Every living row of the generation that is the newest now."""
    try:
        cache = open_cache(root)
        outcome["opened"] += 1
        passing = PassingPixels(cache)
        for index, view in cache.stored_rows():
            outcome["wrong"] += not _is_answer(cache, teacher, index, view, passing)
            outcome["rows"] += 1
    except KdError:  # damage is refused: that is no wrong pair
        outcome["refused"] += 1


def _is_answer(cache: Cache, teacher: Network, index: int, view: int, passing: PassingPixels) -> bool:
    """Whether every stored target is the teacher's answer. Raises BadCache for other pixels than recorded."""

    def feed(number: int) -> Feed | None:
        return pixel_feed(cache, [cache.row(index, view)]) if number == 0 else None

    pipeline = ImagePipeline(feed, batch_size=1, with_maps=False)
    images_BHWC = next(iter(pipeline.run())).images_BHWC
    pipeline.close()
    passing.compare([cache.row(index, view)], images_BHWC)
    with torch.no_grad():
        answers = teacher(images_BHWC, [tap.tap for tap in cache.manifest.taps])
    for tap in cache.manifest.taps:
        codec, answer = cache.codec(tap.name), answers[tap.tap].float()
        parts = cache.parts(tap.name, index, view)
        stored = codec.decode({k: torch.from_numpy(v.copy())[None] for k, v in parts.items()})
        if not ((stored - answer).abs() <= codec.bound(answer) + 1e-5 * answer.abs().max()).all():
            return False
    return True
