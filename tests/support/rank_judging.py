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
from tiny_folder import CLASSES as CLASS_NAMES
from torch import nn

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.trainer.assemble import _validation
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.loop import train
from kdcache.trainer.ranks import ranks_of
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.run_source import RunSource

JUDGED = replace(CONFIG, steps=4, eval_every=2, save_every=4)


def folder_to_judge(images: Path) -> RunSource:
    return RunSource(
        source=None,
        cache=None,
        task=SEGMENTATION,
        spec=f"folder:{images}",
        dataset="folder",
        class_names=CLASS_NAMES,
        crop=(8, 8),
        augment="",
        output_stride=None,
    )


def main(images: Path, out: Path) -> None:
    judgements: list[dict[str, Any]] = []
    left: dict[str, Any] = {"judgements": judgements}

    def assemble(accelerator: Accelerator) -> RunParts:
        made = parts(JUDGED)(accelerator)
        left["world"], left["rank"] = int(accelerator.num_processes), int(accelerator.process_index)
        judge, _ = _validation(folder_to_judge(images), ranks_of(accelerator), JUDGED)
        assert judge is not None

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
