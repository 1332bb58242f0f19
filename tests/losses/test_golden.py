"""Every loss against the values and gradients of the published codes (tests/golden, or `--golden DIR`).

A file holds cases `c<number>.<key>`; the array `cases` lists the numbers. Scalars are losses, `grad_<input>`
and `g_<weight>` gradients, `meta` the hyper-parameters: all must be reproduced, in both precisions.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdcache.cache.spec import IGNORE, TensorSpec
from kdcache.losses.afdcd import DenseContrast
from kdcache.losses.contract import Maps
from kdcache.losses.cwd import ChannelWise
from kdcache.losses.kd import PixelKD
from kdcache.losses.masks import centre_mask, channel_mask, spatial_mask
from kdcache.losses.mgd import MaskedGeneration
from kdcache.losses.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs
from kdcache.losses.task import segmentation_ce

HERE = Path(__file__).parents[1] / "golden"
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}  # of the largest absolute value expected
LAYERS = {  # name in the published code: ours
    "align": "align",
    "conv": "align",
    "projetor_0": "generator.0",
    "projetor_2": "generator.2",
    "projetor_block_1_0": "generator.first",
    "projetor_block_2_0": "generator.second",
    "projetor_adpator_1": "generator.shallow",
    "projetor_adpator_2": "generator.deep",
    "generation_0": "generator.0",
    "generation_2": "generator.2",
}


class Case:
    """One case in one precision: `case["feat_S"]` is a leaf, with gradient where the file has one for it."""

    def __init__(self, archive: Mapping[str, np.ndarray], number: int, dtype: torch.dtype) -> None:
        prefix = f"c{number}."
        self.arrays = {k.removeprefix(prefix): archive[k] for k in archive if k.startswith(prefix)}
        self.meta: dict[str, Any] = json.loads(str(self.arrays.pop("meta")))
        self.dtype = dtype
        self.leaves: dict[str, Tensor] = {}

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.leaves:
            array = torch.from_numpy(self.arrays[key])
            leaf = array.to(self.dtype) if array.is_floating_point() else array
            self.leaves[key] = leaf.requires_grad_(f"grad_{key}" in self.arrays)
        return self.leaves[key]

    def maps(self, student: str, teacher: str, tap: str) -> Maps:
        return Maps({tap: _spec(self[student])}, {tap: _spec(self[teacher])})

    def inputs(self, tap: str, student: str, teacher: str) -> StepInputs:
        labels = torch.zeros(1, 1, 1, dtype=torch.int64)
        return StepInputs({tap: self[student]}, {tap: self[teacher]}, labels, torch.Generator(), 0, 0)

    def load(self, module: nn.Module) -> nn.Module:
        """Put every stored weight into the module; one left over on either side is an error."""
        stored = {_weight_name(k): torch.from_numpy(v) for k, v in self.arrays.items() if k.startswith("w_")}
        module.to(self.dtype).load_state_dict(stored, strict=True)
        return module

    def gradients(self, loss: Tensor, *modules: nn.Module) -> dict[str, Tensor]:
        """grad_* and g_* of `loss`, for every leaf and weight."""
        weights = {name: p for module in modules for name, p in module.named_parameters()}
        keys = {f"grad_{k}": v for k, v in self.leaves.items() if v.requires_grad}
        keys |= {k: weights[_weight_name(k)] for k in self.arrays if k.startswith("g_")}
        return dict(zip(keys, torch.autograd.grad(loss, list(keys.values()), retain_graph=True), strict=True))

    def expected(self) -> dict[str, np.ndarray]:
        return {k: v for k, v in self.arrays.items() if v.ndim == 0 or k.startswith(("grad_", "g_"))}

    def mask(self, kind: str, ratio: float) -> Tensor:
        uniform = torch.from_numpy(self.arrays["mask_uniform"])
        drawn = channel_mask(uniform, ratio) if kind == "channel" else spatial_mask(uniform, ratio)
        mask = centre_mask(uniform) if kind == "fixed" else drawn
        if "mask" in self.arrays:
            stored = np.broadcast_to(self.arrays["mask"], uniform.shape)
            assert np.array_equal(mask.expand(uniform.shape).numpy(), stored), (
                "our mask differs from the stored one"
            )
        return mask.to(self.dtype)


def afdcd(case: Case) -> dict[str, Tensor]:
    module = DenseContrast(case.maps("feat_S", "feat_T", "stage4"), **_afdcd_options(case))
    case.load(module)
    mask = case.mask("random" if case.meta["args"]["rand_mask"] else "fixed", module.mask_ratio)
    terms = module(case.inputs("stage4", "feat_S", "feat_T"), mask=mask)
    fd, ctr = terms["fd"], terms["ctr"]
    loss = fd.weight * fd.value + ctr.weight * ctr.value
    found = {"fd_loss": fd.value, "ctr_loss": ctr.value, "loss": loss, **case.gradients(loss, module)}
    if "grad_feat_S_fd" in case.arrays:
        found["grad_feat_S_fd"] = case.gradients(fd.value, module)["grad_feat_S"]
        found["grad_feat_S_ctr"] = case.gradients(ctr.value, module)["grad_feat_S"]
    return found


def afdcd_objective(case: Case) -> dict[str, Tensor]:
    """Through the expression, the plan and the whole set, as a run would."""
    spelled = {
        k: "x".join(map(str, v)) if isinstance(v, tuple) else v for k, v in _afdcd_options(case).items()
    }
    options = ",".join(f"{name}={value}" for name, value in spelled.items())
    plan = parse_losses(f"afdcd({options},kd={case.meta['lambdas']['kd']})", preset=None)
    student = {"stage4": case["feat_S"], "logits": case["logits_S"]}
    if case.meta["aux"]:
        student["aux"] = case["aux_logits_S"]
    teacher = {"stage4": case["feat_T"], "logits": case["logits_T"]}
    losses = plan.build(student=_specs(student), teacher=_specs(teacher)).to(case.dtype)
    contrast = losses.terms["afdcd"]
    assert isinstance(contrast, DenseContrast)
    case.load(contrast)
    mask = case.mask(contrast.mask, contrast.mask_ratio)
    contrast.draw_mask = lambda *_: mask  # type: ignore[method-assign]
    values = losses(StepInputs(student, teacher, _labels(case), torch.Generator(), 0, 0))
    task = sum(value for name, value in values.terms.items() if name.startswith("task"))
    bare = {"kd_loss": "kd", "fd_loss": "afdcd.fd", "ctr_loss": "afdcd.ctr"}
    found = {key: values.unweighted[name] for key, name in bare.items()}
    return {**found, "task_loss": task, "loss": values.total, **case.gradients(values.total, contrast)}


def mgd(case: Case) -> dict[str, Tensor]:
    kind = "channel" if "channel" in case.meta["mask_kind"] else "spatial"
    ratio = case.meta["lambda_mgd"]
    module = MaskedGeneration(case.maps("feat_S", "feat_T", "stage4"), mask=kind, mask_ratio=ratio)
    case.load(module)
    value = module(case.inputs("stage4", "feat_S", "feat_T"), mask=case.mask(kind, ratio))
    loss = case.meta["alpha_mgd"] * value
    return {"loss": loss, **case.gradients(loss, module)}


def cwd(case: Case) -> dict[str, Tensor]:
    kind = case.meta["kind"]
    norm = {"td_spatial": "spatial", "td_feat_mse_mean": "channel_mean"}.get(kind, "channel")
    divisor = "student" if kind.startswith("cirkd") else "teacher"
    maps = case.maps("student", "teacher", "neck")
    module = ChannelWise(maps, tap="neck", tau=case.meta["tau"], norm=norm, divisor=divisor)
    case.load(module)
    value = module(case.inputs("neck", "student", "teacher"))
    loss = case.meta["weight"] * value
    return {"unweighted": value, "loss": loss, **case.gradients(loss, module)}


def kd_pixelwise(case: Case) -> dict[str, Tensor]:
    kind = case.meta["kind"]
    module = PixelKD(
        case.maps("logits_S", "logits_T", "logits"),
        T=case.meta["temperature"],
        form={"cirkd": "cirkd", "skds_pixelwise": "skds"}.get(kind, "ifvd"),  # type: ignore[arg-type]
        upsample=8 if kind.endswith("upsample") else 1,
    )
    loss = module(case.inputs("logits", "logits_S", "logits_T"))
    return {"loss": loss, **case.gradients(loss)}


def seg_ce(case: Case) -> dict[str, Tensor]:
    loss = segmentation_ce(case["logits_S"], _labels(case))
    if case.meta["aux_weight"]:
        loss = loss + case.meta["aux_weight"] * segmentation_ce(case["aux_logits_S"], _labels(case))
    return {"loss": loss, **case.gradients(loss)}


ADAPTERS: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    f.__name__: f for f in (afdcd, afdcd_objective, mgd, cwd, kd_pixelwise, seg_ce)
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = metafunc.config.getoption("--golden") or HERE
    metafunc.parametrize(("path", "method", "number", "dtype"), list(_cases(root)))


def test_values_and_gradients_are_those_of_the_published_code(
    path: Path, method: str, number: int, dtype: torch.dtype
) -> None:
    with np.load(path, allow_pickle=False) as archive:
        case = Case(archive, number, dtype)
    found, expected = ADAPTERS[method](case), case.expected()
    assert not set(expected) - set(found), "the file has values that the adapter does not compute"
    for key, wanted in expected.items():
        error = np.abs(found[key].detach().numpy() - wanted).max() / max(np.abs(wanted).max(), 1e-300)
        assert error <= TOLERANCE[dtype], f"{key} is off by {error:.1e} of its largest value"


def _cases(root: Path) -> Iterator[Any]:
    known = {f"{method}.npz" for method in ADAPTERS}
    if not known & {path.name for path in root.glob("**/*.npz")}:
        raise pytest.UsageError(f"{root} holds none of {', '.join(sorted(known))}")
    for method in ADAPTERS:
        places = [root / "segmentation" / f"{method}.npz", root / f"{method}.npz"]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            reason = pytest.mark.skip(reason=f"{root} has no {method}.npz")
            yield pytest.param(places[0], method, 0, torch.float64, id=f"golden-{method}", marks=reason)
            continue
        with np.load(path, allow_pickle=False) as archive:
            numbers = [int(number) for number in archive["cases"]]
        for number in numbers:
            for dtype in TOLERANCE:
                name = f"golden-{method}-c{number}-{str(dtype).removeprefix('torch.')}"
                yield pytest.param(path, method, number, dtype, id=name)


def _afdcd_options(case: Case) -> dict[str, Any]:
    args, lambdas = case.meta["args"], case.meta["lambdas"]
    whole_map = args["dataset"] == "camvid"  # there the published code does not pool, and cuts 45 cells to 44
    return {
        "lambda_fd": lambdas["fd"],
        "lambda_ctr": lambdas["ctr"],
        "tau": args["tau_ocd"],
        "groups": args["M_ocd"],
        "pool": 0 if whole_map else args["pool_size"],
        "patch": tuple(args["patch_size"]),
        "fit": "cut" if whole_map else "exact",
        "mask": "random" if args["rand_mask"] else "fixed",
        "mask_ratio": args["mask_ratio"],
        "generator": "enhanced" if args["enhance_projector"] else "plain",
    }


def _labels(case: Case) -> Tensor:
    return case["labels"].masked_fill(case["labels"] == case.meta["ignore_index"], IGNORE)


def _weight_name(key: str) -> str:
    layer, _, kind = key.split("_", 1)[1].rpartition("_")
    return f"{LAYERS[layer]}.{kind}"


def _spec(map_BCHW: Tensor) -> TensorSpec:
    _, channels, height, width = map_BCHW.shape
    return TensorSpec((height, width, channels), stride=8)


def _specs(maps: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    return {tap: _spec(value) for tap, value in maps.items()}
