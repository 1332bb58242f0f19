"""Features beside the teacher's, against loops and what must be so."""

import math

import pytest
import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.trainer.bench.page.analysis import linear_cka, patch_cosines, shared_tap


def test_cosines_are_of_all_pairs_within_each_patch_and_of_no_other() -> None:
    generator = torch.Generator().manual_seed(0)
    map_BCHW = torch.randn(1, 3, 9, 8, generator=generator)
    got = sorted(patch_cosines(map_BCHW).flatten().tolist())
    wanted = []
    for top in (0, 4):
        for left in (0, 4):
            cells = [map_BCHW[0, :, top + y, left + x] for y in range(4) for x in range(4)]
            for i, a in enumerate(cells):
                for b in cells[i + 1 :]:
                    wanted.append(float(a @ b / math.sqrt(float(a @ a) * float(b @ b))))
    assert got == pytest.approx(sorted(wanted), abs=1e-5) and len(got) == 4 * 120


def test_a_map_smaller_than_a_patch_is_one() -> None:
    assert patch_cosines(torch.ones(1, 2, 2, 3)).tolist() == [pytest.approx([1.0] * 15)]


def linear_kernel_cka(x: Tensor, y: Tensor) -> float:
    """By kernels and their centring, as the paper defines it."""
    centre = torch.eye(len(x), dtype=torch.float64) - 1 / len(x)
    a, b = centre @ (x @ x.T) @ centre, centre @ (y @ y.T) @ centre
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_cka_is_that_of_the_kernels_and_knows_no_rotation_and_no_scale() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(20, 3, generator=generator, dtype=torch.float64) + x[:, :3]
    assert linear_cka(x, y) == pytest.approx(linear_kernel_cka(x, y))
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1.0)


def test_logits_are_no_feature_map_and_a_classifier_of_vectors_has_none() -> None:
    networks = [
        build_network("tiny_teacher:make", task=SEGMENTATION, num_classes=n, output_stride=8) for n in (3, 3)
    ]
    assert shared_tap(networks) == "stage4"
    networks[1].taps = {"logits": "head"}
    with pytest.raises(BadOption, match="share no feature map, only logits") as error:
        shared_tap(networks)
    assert (error.value.where, error.value.fix) == ("--analysis", "leave --analysis out")
    classifier = build_network("tiny_classifier:make", task=CLASSIFICATION, num_classes=3)
    assert shared_tap([classifier]) == "stage1", "the embedding is a vector"
