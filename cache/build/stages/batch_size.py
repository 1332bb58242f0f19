"""How many rows go through the teacher together where nobody said: a short trial, within the memory bound.

The choice is kept in the manifest, because it decides the last bits of what a convolution answers: who goes
on, grows or repairs takes it from there. A build of few rows makes no trial.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdcache.cache.build.options import USUAL_BATCH
from kdcache.cache.networks.network import Network
from kdcache.cache.processes.progress import moved

CANDIDATES = (8, 16, 32, 64)
WIDE = (128, 256)  # also, on a GPU; a CPU gains nothing from them and its trial would take twice as long
TRIAL_ROWS = 2048  # fewer take no longer than the trial would
TRIAL_S = 4.0
REPEATS = 2
GAIN = 1.03  # a larger batch must be so much faster, or it is noise and memory
SHARE = 4  # of the memory bound that activations may take: the rest is for targets in flight
LIVE = 3  # outputs of layers that are there at once: what goes in, what comes out, the shortcut


def chosen_batch_size(
    network: Network,
    taps: Sequence[str],
    size_px: tuple[int, int],
    *,
    memory_bytes: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The batch size at which a row of this size in pixels takes the shortest time."""
    network = network.eval().to(device)
    most = _most_rows(network, taps, size_px, memory_bytes // SHARE, device)
    best, best_s = USUAL_BATCH, float("inf")
    began = clock()
    for rows in candidates(device):
        if rows > max(most, USUAL_BATCH) or clock() - began > TRIAL_S:
            break
        row_s = _row_seconds(network, taps, _blank(rows, size_px, device), clock)
        moved()
        if row_s * GAIN < best_s:
            best, best_s = rows, row_s
    return best if best_s < float("inf") else USUAL_BATCH


def candidates(device: torch.device) -> tuple[int, ...]:
    """The batch sizes that are tried there, from small to large."""
    return (*CANDIDATES, *WIDE) if device.type == "cuda" else CANDIDATES


@torch.no_grad()
def _row_seconds(
    network: Network, taps: Sequence[str], images_BHWC: Tensor, clock: Callable[[], float]
) -> float:
    """The best of a few passes, the first of which warms up."""
    best = float("inf")
    for _ in range(1 + REPEATS):
        began = clock()
        network(images_BHWC, taps)
        if images_BHWC.is_cuda:
            torch.cuda.synchronize(images_BHWC.device)
        best = min(best, clock() - began)
    return best / len(images_BHWC)


def _blank(rows: int, size_px: tuple[int, int], device: torch.device) -> Tensor:
    return torch.full((rows, *size_px, 3), 127, dtype=torch.uint8, device=device)


@torch.no_grad()
def _most_rows(
    network: Network, taps: Sequence[str], size_px: tuple[int, int], num_bytes: int, device: torch.device
) -> int:
    """Rows whose activations fit: the largest outputs of layers that are there at once, and the taps."""
    with _outputs(network) as sizes:
        values: Mapping[str, Tensor] = network(_blank(1, size_px, device), taps)
    kept = sum(value.numel() * value.element_size() for value in values.values())
    return num_bytes // max(1, kept + sum(sorted(sizes)[-LIVE:]))


@contextmanager
def _outputs(network: nn.Module) -> Iterator[list[int]]:
    """Within it the bytes of what every layer answers."""
    sizes: list[int] = []

    def see(module: nn.Module, inputs: object, output: object) -> None:
        del module, inputs
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    hooks = [one.register_forward_hook(see) for one in network.modules() if not list(one.children())]
    try:
        yield sizes
    finally:
        for hook in hooks:
            hook.remove()
