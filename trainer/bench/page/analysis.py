"""What distillation did to the features: what Af-DCD's authors look at (Fan et al. 2023, arXiv 2312.04168).

On whole images of a split, at one tap that teacher and students share:
1. self-similarity within patches: cosines between all pairs of cells of a patch of 4 x 4, as a distribution;
2. distance of self-similarity: mean |cosine of the student - cosine of the teacher| over the same pairs;
3. distance of features: 1 - linear CKA over the cells of all images (Kornblith et al. 2019, arXiv
   1905.00414), which compares maps of different channels without an adapter. 0: equal up to a rotation and a
   scale; 1: nothing in common.
A student's map of another size is resized to the teacher's (bilinear). Axes: P patches, N cells of one, C
channels, V cells of all images.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.table import task_of
from kdcache.trainer.bench.page.examples import spread_evenly
from kdcache.trainer.judge.judge import evaluating, judge_of, judged_images
from kdcache.trainer.stream.source_samples import as_samples

PATCH = 4  # cells a side
BINS = 60  # of a distribution over -1..1
NUM_IMAGES = 16
_FIRST = ("stage4", "neck", "stage3", "p4")  # taps that are looked at where there are several
_NO_MAPS = ("logits", "aux")


class Features(NamedTuple):
    """Of one network. Shares of a distribution add up to 1."""

    name: str
    shares: tuple[float, ...]  # of pairs, by cosine: BINS equal parts of -1..1
    mean: float  # cosine
    similarity_distance: float | None  # to the teacher, 0..2; None of the teacher itself
    feature_distance: float | None  # 0..1


class Analysis(NamedTuple):
    tap: str
    num_images: int
    networks: tuple[Features, ...]  # the teacher first


def analyse(
    teacher: Network,
    students: Mapping[str, Network],
    source: Source,
    *,
    input_size: tuple[int, int],
    num_images: int = NUM_IMAGES,
    num_threads: int = 1,
) -> Analysis:
    """Raises BadOption for networks without a map of one name, KdError for images that do not fit."""
    tap = shared_tap([teacher, *students.values()])
    counting, truth = judge_of(source.task, source.class_names), task_of(source.task).truth
    groups = [[index] for index in spread_evenly(len(source.keys), num_images)]
    images = judged_images(
        as_samples(source), groups, counting, truth, input_size, torch.device("cpu"), num_threads
    )
    networks = {"teacher": teacher, **students}
    cosines: dict[str, list[Tensor]] = {name: [] for name in networks}
    cells: dict[str, list[Tensor]] = {name: [] for name in networks}
    with closing(images):
        for batch in images:
            size = None
            for name, network in networks.items():
                with evaluating(network, (tap,)) as ask:
                    map_BCHW = ask(batch.images_BHWC)[tap].float()
                size = size or (map_BCHW.shape[2], map_BCHW.shape[3])
                if tuple(map_BCHW.shape[2:]) != size:
                    map_BCHW = interpolate(map_BCHW, size=size, mode="bilinear", align_corners=True)
                cosines[name].append(patch_cosines(map_BCHW).flatten())
                cells[name].append(map_BCHW.flatten(2)[0].T.double())
    rows = [_features(name, cosines, cells) for name in networks]
    return Analysis(tap, len(groups), tuple(rows))


def shared_tap(networks: Sequence[Network]) -> str:
    """A map that all of them have. Raises BadOption where there is none."""
    shared = [tap for tap in networks[0].taps if all(tap in network.taps for network in networks)]
    maps = [tap for tap in shared if tap not in _NO_MAPS and _is_map(networks[0], tap)]
    named = [tap for tap in _FIRST if tap in maps] or maps[-1:]
    if not named:
        raise BadOption(
            f"teacher and students share no feature map, only {', '.join(shared) or 'nothing'}",
            where="--analysis",
            fix="leave --analysis out",
        )
    return named[0]


def patch_cosines(map_BCHW: Tensor) -> Tensor:
    """(P, pairs): cosines of every two cells of each patch of 4 x 4, or of all that a smaller map has. Cells
    that fill no patch are left out."""
    height, width = map_BCHW.shape[2:]
    side_h, side_w = min(PATCH, height), min(PATCH, width)
    whole = map_BCHW[:, :, : height // side_h * side_h, : width // side_w * side_w]
    tiles = whole.unfold(2, side_h, side_h).unfold(3, side_w, side_w)  # B C h w side_h side_w
    cells_PNC = tiles.permute(0, 2, 3, 4, 5, 1).reshape(-1, side_h * side_w, map_BCHW.shape[1])
    unit_PNC = normalize(cells_PNC, dim=2)
    first, second = torch.triu_indices(side_h * side_w, side_h * side_w, 1)
    return (unit_PNC @ unit_PNC.transpose(1, 2))[:, first, second]


def linear_cka(ours_VC: Tensor, theirs_VD: Tensor) -> float:
    """||X'Y||^2 / (||X'X|| ||Y'Y||) of the centred cells, Frobenius norms: 0..1; nan where one is
    constant."""
    x_VC, y_VD = ours_VC - ours_VC.mean(0), theirs_VD - theirs_VD.mean(0)
    across = (x_VC.T @ y_VD).square().sum()
    return float(across / ((x_VC.T @ x_VC).norm() * (y_VD.T @ y_VD).norm()))


def _features(name: str, cosines: Mapping[str, list[Tensor]], cells: Mapping[str, list[Tensor]]) -> Features:
    own, teacher = torch.cat(cosines[name]), torch.cat(cosines["teacher"])
    counts = torch.histc(own.clamp(-1, 1), bins=BINS, min=-1, max=1)
    same = name == "teacher"
    return Features(
        name=name,
        shares=tuple((counts / counts.sum()).tolist()),
        mean=float(own.mean()),
        similarity_distance=None if same else float((own - teacher).abs().mean()),
        feature_distance=None
        if same
        else 1 - linear_cka(torch.cat(cells[name]), torch.cat(cells["teacher"])),
    )


def _is_map(network: Network, tap: str) -> bool:
    height, width = network.probe_px
    return len(network.tap_specs((tap,), height, width)[tap].shape) == 3
