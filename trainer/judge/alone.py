"""A network judged outside of a training run: one process, no Accelerate, float32."""

import torch
from torch import nn

from kdcache.cache.sources.contract import Source
from kdcache.trainer.judge.contract import Ask
from kdcache.trainer.judge.judge import judge
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.ranks import check_device


def judge_alone(
    network: nn.Module | Ask,
    source: Source,
    *,
    input_size: tuple[int, int],
    device: str,
    num_threads: int,
    teacher: nn.Module | None = None,
) -> Metrics:
    """Metrics of `network`, or of a function that answers as one, on every image of `source`. `device` is
    'auto', 'cpu' or 'cuda'; `input_size` the (height, width) in pixels that the network was made for. Raises
    BadOption and BadSample as `judge`.
    """
    check_device(device)
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return judge(
        network.to(where) if isinstance(network, nn.Module) else network,
        source,
        task=source.task,
        device=where,
        class_names=tuple(source.class_names),
        input_size=input_size,
        num_threads=num_threads,
        teacher=None if teacher is None else teacher.to(where),
    )
