"""A run on this rank whose student is judged on drawn images by all ranks: what was judged, the batch
statistics that this rank's own student had then, and the figures, to `<out>/rank<r>.pt`.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_judging IMAGES OUT
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from fake_run import CONFIG, parts
from torch import nn

from kdcache.cache.sources.table import open_source
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.loop import train
from kdcache.trainer.ranks import place_of
from kdcache.trainer.steps.contract import Parts

JUDGED = replace(CONFIG, steps=4, eval_every=2, save_every=4)


def main(images: Path, out: Path) -> None:
    judgements: list[dict[str, Any]] = []
    left: dict[str, Any] = {"judgements": judgements}

    def assemble(accelerator: Accelerator) -> Parts:
        made = parts(JUDGED)(accelerator)
        left["world"], left["rank"] = int(accelerator.num_processes), int(accelerator.process_index)
        source = open_source(f"folder:{images}", "val")
        judge = place_of(accelerator).evaluation(source, tuple(source.class_names), num_threads=1)

        def watched(network: nn.Module) -> Metrics:
            own = {name: value.clone() for name, value in made.student.named_buffers()}
            state = {name: value.clone() for name, value in network.state_dict().items()}
            metrics = judge(network)
            judgements.append({"own": own, "state": state, "metrics": metrics.named()})
            return metrics

        return replace(made, evaluate=watched)

    train(JUDGED, out / "r", assemble)
    torch.save(left, out / f"rank{left['rank']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
