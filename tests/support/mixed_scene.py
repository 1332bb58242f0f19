"""A tiny data set of classes and its cache, in which every row shows another sample too."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from cache_scene import SAMPLES, SHARD, Scene
from PIL import Image

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.reader.cache import Cache, open_cache


class MixedScene(Scene):
    changed: Mapping[str, object] = {}  # options of every build, where they are others than usual

    @property
    def caches(self) -> Path:
        return Path(str(self.changed.get("caches_dir", self.root / "caches")))

    @property
    def cache(self) -> Path:
        return next(p for p in sorted(self.caches.iterdir()) if p.name.startswith("imagefolder-"))

    def with_options(self, **changed: object) -> "MixedScene":
        """The same data under another cache, which is built."""
        other = MixedScene(self.root, self.target_format)
        other.changed = changed
        build_cache(other.options())
        return other

    def options(self, **changes: object) -> BuildOptions:
        options = BuildOptions(
            runs_dir=self.root / "runs",
            caches_dir=self.caches,
            teacher="tiny_classifier:make",
            data=f"imagefolder:{self.data}",
            views="crops:2",
            augment="pad=4,flip,mixup=1",
            crop=(32, 32),
            taps=(parse_tap("embedding=fp32"), parse_tap("logits=fp32")),
            target_format=self.target_format,
            shard_rows=SHARD,
            batch_size=4,
        )
        return replace(options, **(dict(self.changed) | changes))  # type: ignore[arg-type]

    def copy(self, to: Path) -> "MixedScene":
        shutil.copytree(self.root, to, copy_function=shutil.copy2)
        return MixedScene(to, self.target_format)

    def image(self, key: str) -> Path:
        return self.data / "train" / f"{key}.png"

    def draw(self, key: str, seed: int) -> None:
        coarse = np.random.default_rng(seed).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        path = self.image(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((40, 36), Image.Resampling.BILINEAR).save(path)


KEYS = ("cat/0", "cat/1", "cat/2", "cat/3", "dog/0", "dog/1", "dog/2")  # the last one is alone in its block


# In one block of all seven it is mixed into one sample under views 0 and 1, into four others under 2 to 5.
IN_LATER_VIEWS = "dog/1"


def built_mixed_scene(root: Path, target_format: str = "zarr") -> MixedScene:
    assert len(KEYS) == SAMPLES
    scene = MixedScene(root, target_format)
    for seed, key in enumerate(KEYS):
        scene.draw(key, seed)
    build_cache(scene.options())
    return scene


def partners(root: Path) -> dict[tuple[str, int], str]:
    """(key, view) of every living row -> the key of who is mixed in."""
    cache = open_cache(root)
    shown: dict[tuple[str, int], str] = {}
    for index, view in cache.stored_rows():
        partner = cache.row(index, view).partner
        assert partner is not None
        shown[cache.key(index), view] = cache.key(partner.sample)
    return shown


def stale(cache: Cache) -> list[str]:
    """Living rows that show an image which the data do not have any more."""
    images = {cache.key(i): cache.image(i).tobytes() for i in cache.living.tolist()}
    shown = ((index, view, cache.row(index, view).partner) for index, view in cache.stored_rows())
    return [
        f"{cache.key(index)} view {view} shows {cache.key(partner.sample)}"
        for index, view, partner in shown
        if partner and images.get(cache.key(partner.sample)) != cache.image(partner.sample).tobytes()
    ]
