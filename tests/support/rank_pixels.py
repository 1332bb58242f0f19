"""A rank of two that decodes images for both; writes what it was told to do and what it reads to
`<out>/rank<r>.pt`.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_pixels CACHE OUT
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from kdcache.cache.reader.cache import open_cache
from kdcache.cache.trust import trust
from kdcache.trainer.stream.arrays import decoded_pixels
from kdcache.trainer.stream.arrays.levels import Rule
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

STEPS = 4
LAYOUT = BatchLayout(seed=0, global_batch=6, world=2)


def main(cache: Path, out: Path) -> None:
    trust("tiny_classifier:make")
    dist.init_process_group("gloo")
    rank, decodes = dist.get_rank(), 0
    honest = decoded_pixels._decoded

    def counted(*given: object) -> object:
        nonlocal decodes
        decodes += 1
        return honest(*given)

    decoded_pixels._decoded = counted
    layout = BatchLayout(seed=0, global_batch=6, world=2, rank=rank)
    stream = StoredStream(open_cache(cache), needs=(), layout=layout, rule=Rule())
    batches = stream.run()
    images = torch.stack([next(batches).images_BHWC for _ in range(STEPS)])
    left = {"world": dist.get_world_size(), "decodes": decodes, "images": images}
    torch.save(left, out / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
