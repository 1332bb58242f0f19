"""The critic that sees the image (branch cvpr_19) against a slow formula, through its golden adapter.

The published file is not stored here; this makes one of its form, with weights and inputs of its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_case import TOLERANCE, Case
from golden_check import check_case
from torch import Tensor

METHOD = "segmentation/skds_holistic_conditional"
CHANNELS = (3 + 5, 64, 128, 256, 512)  # image and classes, then the four levels
IMAGE, CELLS, CLASSES = (70, 90), (64, 80), 5


def drawn_weights() -> dict[str, np.ndarray]:
    """By the published names, float16 as published."""
    source = np.random.default_rng(3)
    weights: dict[str, np.ndarray] = {}

    def put(name: str, *shape: int, scale: float = 1.0) -> None:
        weights[f"w_{name}"] = (scale * source.standard_normal(shape)).astype(np.float16)

    for level, (before, after) in enumerate(zip(CHANNELS[:-1], CHANNELS[1:], strict=True), start=1):
        put(f"l{level}_0_module_bias", after, scale=0.1)
        put(f"l{level}_0_module_weight_u", after, scale=after**-0.5)
        put(f"l{level}_0_module_weight_v", before * 16, scale=(before * 16) ** -0.5)
        put(f"l{level}_0_module_weight_bar", after, before, 4, 4, scale=0.05)
    for number, width in ((1, 256), (2, 512)):
        put(f"attn{number}_gamma", 1)
        for kind, out in (("query", width // 8), ("key", width // 8), ("value", width)):
            put(f"attn{number}_{kind}_conv_weight", out, width, 1, 1, scale=4 * width**-0.5)
            put(f"attn{number}_{kind}_conv_bias", out, scale=0.1)
    put("last_0_weight", 1, CHANNELS[-1], 4, 4, scale=0.02)
    put("last_0_bias", 1, scale=0.1)
    return weights


def slow_scores(image: Tensor, logits: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The published order of steps: resize, softmax, side by side, four strided layers, two attentions."""
    rows, columns = (spread(n, m) for n, m in zip(IMAGE, CELLS, strict=True))
    resized = torch.einsum("yh,bchw,xw->bcyx", rows, image, columns)
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    hidden = torch.cat([resized, shares], 1)
    for level in range(1, 5):
        name = f"w_l{level}_0_module"
        flat, u = weights[f"{name}_weight_bar"].flatten(1), weights[f"{name}_weight_u"]
        v = (u @ flat) / (u @ flat).norm()
        u = (flat @ v) / (flat @ v).norm()
        weight = weights[f"{name}_weight_bar"] / (u @ (flat @ v))
        hidden = strided(hidden, weight, padding=1, stride=2) + weights[f"{name}_bias"][:, None, None]
        hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
        if level > 2:
            hidden = attended(hidden, weights, f"w_attn{level - 2}")
    return strided(hidden, weights["w_last_0_weight"], padding=0, stride=1) + weights["w_last_0_bias"]


def spread(pixels: int, cells: int) -> Tensor:
    """(cells, pixels): linear interpolation whose first and last samples are the first and last pixel."""
    matrix = torch.zeros(cells, pixels, dtype=torch.float64)
    for cell in range(cells):
        place = cell * (pixels - 1) / (cells - 1)
        left = min(int(place), pixels - 2)
        matrix[cell, left] = left + 1 - place
        matrix[cell, left + 1] = place - left
    return matrix


def strided(map_BCHW: Tensor, weight_OC44: Tensor, *, padding: int, stride: int) -> Tensor:
    """A 4x4 convolution as sixteen products."""
    padded = torch.nn.functional.pad(map_BCHW, (padding,) * 4)
    high, wide = ((side - 4) // stride + 1 for side in padded.shape[-2:])
    return sum(
        torch.einsum(
            "oc,bchw->bohw",
            weight_OC44[:, :, y, x],
            padded[..., y : y + stride * high : stride, x : x + stride * wide : stride],
        )
        for y in range(4)
        for x in range(4)
    )  # type: ignore[return-value]


def attended(map_BCHW: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Each cell's own softmax over all cells, image by image and cell by cell."""
    query, key, value = (
        torch.einsum("oc,bchw->bohw", weights[f"{name}_{kind}_conv_weight"][:, :, 0, 0], map_BCHW).flatten(2)
        + weights[f"{name}_{kind}_conv_bias"][:, None]
        for kind in ("query", "key", "value")
    )
    mixed = []
    for image in range(len(map_BCHW)):
        for cell in range(query.shape[2]):
            likeness = (query[image, :, cell, None] * key[image]).sum(0).exp()
            mixed.append((value[image] * (likeness / likeness.sum())).sum(1))
    stacked = torch.stack(mixed).unflatten(0, (len(map_BCHW), -1)).transpose(1, 2)
    return map_BCHW + weights[f"{name}_gamma"] * stacked.reshape(map_BCHW.shape)


@pytest.fixture(scope="module")
def stored_case(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], Path]:
    folder, weights = tmp_path_factory.mktemp("conditional"), drawn_weights()
    np.savez(folder / "skds_cond_weights.npz", **weights)
    source = torch.Generator().manual_seed(4)
    image = torch.randn(2, 3, *IMAGE, generator=source, dtype=torch.float64)
    logits = torch.randn(2, CLASSES, *CELLS, generator=source, dtype=torch.float64).requires_grad_()
    wide = {name: torch.from_numpy(values).double() for name, values in weights.items()}
    scores = slow_scores(image, logits, wide)
    loss = -scores.mean()
    (slope,) = torch.autograd.grad(loss, logits)
    arrays = {
        "meta": np.array(json.dumps({"weights": "skds_cond_weights.npz"})),
        "logits_S": logits.detach().numpy(),
        "image": image.numpy(),
        "d_out": scores.detach().squeeze().numpy(),
        "loss": loss.detach().numpy(),
        "grad_logits_S": slope.numpy(),
    }
    return {f"c0.{key}": value for key, value in arrays.items()}, folder


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_critic_that_sees_the_image_scores_as_a_slow_formula_of_the_published_one(
    stored_case: tuple[dict[str, np.ndarray], Path], dtype: torch.dtype
) -> None:
    arrays, folder = stored_case
    assert arrays["c0.d_out"].shape == (2, 2)  # two images, two windows of the last layer
    check_case(METHOD, Case(arrays, 0, dtype, folder=folder))
