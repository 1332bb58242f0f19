"""Golden adapters of losses on maps: what each file's keys mean to our classes."""

from collections.abc import Mapping
from typing import Any

import golden_dense_learned
import numpy as np
import torch
from bare_inputs import specs, step_inputs
from golden_case import Adapter, Case
from torch import Tensor, nn

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Maps
from kdcache.losses.dense.afdcd import DenseContrast
from kdcache.losses.dense.cwd import ChannelWise
from kdcache.losses.dense.dsd import DoubleSimilarity
from kdcache.losses.dense.gdd import GenerativeDenoise
from kdcache.losses.dense.ifvd import IntraClassVariation
from kdcache.losses.dense.labels import nearest_labels
from kdcache.losses.dense.mgd import MaskedGeneration
from kdcache.losses.dense.skds_pair import PairWise
from kdcache.losses.dense.skds_pixel import PixelWise
from kdcache.losses.formulas.masks import centre_mask, channel_mask, spatial_mask
from kdcache.losses.logits.kd import KD
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.supervised.segmentation import segmentation_ce

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


def afdcd(case: Case) -> dict[str, Tensor]:
    module = DenseContrast(case.maps("feat_S", "feat_T", "stage4"), **_afdcd_options(case))
    load(case, module)
    mask = mask_of(case, "random" if case.meta["args"]["rand_mask"] else "fixed", module.mask_ratio)
    terms = module(case.inputs("stage4", "feat_S", "feat_T"), mask=mask)
    fd, ctr = terms["fd"], terms["ctr"]
    loss = fd.weight * fd.value + ctr.weight * ctr.value
    answers = {"fd_loss": fd.value, "ctr_loss": ctr.value, "loss": loss, **gradients(case, loss, module)}
    if "grad_feat_S_fd" in case.arrays:
        answers["grad_feat_S_fd"] = gradients(case, fd.value, module)["grad_feat_S"]
        answers["grad_feat_S_ctr"] = gradients(case, ctr.value, module)["grad_feat_S"]
    return answers


def afdcd_objective(case: Case) -> dict[str, Tensor]:
    """Through the expression, the plan and the whole set, as a run would. A case without an auxiliary head
    stores its scores all the same: nothing reads them, and their gradient is 0.
    """
    spelled = {
        k: "x".join(map(str, v)) if isinstance(v, tuple) else v for k, v in _afdcd_options(case).items()
    }
    options = ",".join(f"{name}={value}" for name, value in spelled.items())
    plan = parse_losses(f"afdcd({options},kd={case.meta['lambdas']['kd']})", preset=None, task=SEGMENTATION)
    student = {"stage4": case["feat_S"], "logits": case["logits_S"]}
    auxiliary = case["aux_logits_S"] if "aux_logits_S" in case.arrays else None
    if case.meta["aux"] and auxiliary is not None:
        student["aux"] = auxiliary
    teacher = {"stage4": case["feat_T"], "logits": case["logits_T"]}
    losses = plan.build(student=specs(student), teacher=specs(teacher)).to(case.dtype)
    contrast = losses.terms["afdcd"]
    assert isinstance(contrast, DenseContrast)
    load(case, contrast)
    mask = mask_of(case, contrast.mask, contrast.mask_ratio)
    contrast.draw_mask = lambda *_: mask  # type: ignore[method-assign]
    values = losses(step_inputs(student, teacher, case.labels()))
    task = sum(value for name, value in values.terms.items() if name.startswith("task"))
    bare = {"kd_loss": "kd", "fd_loss": "afdcd.fd", "ctr_loss": "afdcd.ctr"}
    answers = {key: values.unweighted[name] for key, name in bare.items()}
    return {**answers, "task_loss": task, "loss": values.total, **gradients(case, values.total, contrast)}


def mgd(case: Case) -> dict[str, Tensor]:
    kind = "channel" if "channel" in case.meta["mask_kind"] else "spatial"
    ratio = case.meta["lambda_mgd"]
    module = MaskedGeneration(case.maps("feat_S", "feat_T", "stage4"), mask=kind, mask_ratio=ratio)
    load(case, module)
    value = module(case.inputs("stage4", "feat_S", "feat_T"), mask=mask_of(case, kind, ratio))
    loss = case.meta["alpha_mgd"] * value
    return {"loss": loss, **gradients(case, loss, module)}


def cwd(case: Case) -> dict[str, Tensor]:
    kind = case.meta["kind"]
    norm = {"td_spatial": "spatial", "td_feat_mse_mean": "channel_mean"}.get(kind, "channel")
    divisor = "student" if kind.startswith("cirkd") else "teacher"
    maps = case.maps("student", "teacher", "neck")
    module = ChannelWise(maps, taps="neck", tau=case.meta["tau"], norm=norm, divisor=divisor)
    load(case, module)
    value = module(case.inputs("neck", "student", "teacher"))
    loss = case.meta["weight"] * value
    return {"unweighted": value, "loss": loss, **gradients(case, loss, module)}


def gdd(case: Case) -> dict[str, Tensor]:
    maps = case.maps("feat_S", "feat_T", "stage4")
    module = GenerativeDenoise(maps, tau=case.meta["temp_gdd"])
    load(case, module)
    value = module(case.inputs("stage4", "feat_S", "feat_T"), noise=case["noise"])
    loss = case.meta["alpha_gdd"] * value
    slopes = gradients(case, loss, module)
    last_bias, last_weight = "g_generation_2_bias", "g_generation_2_weight"
    if last_bias in slopes:
        slopes[last_bias] = rounding_only(case, last_bias, slopes[last_bias], slopes[last_weight])
    return {"unweighted": value, "loss": loss, **slopes}


def rounding_only(case: Case, key: str, value: Tensor, beside: Tensor) -> Tensor:
    """The stored value, where the exact one is 0 (a softmax over cells sees no constant per channel) and both
    sides hold nothing but rounding next to another gradient.
    """
    limit = case.tolerance(key) * beside.abs().max().item()
    assert max(np.abs(case.arrays[key]).max(), value.abs().max().item()) <= limit, f"{key} is not 0"
    return torch.from_numpy(case.arrays[key])


def ifvd(case: Case) -> dict[str, Tensor]:
    maps = case.maps("feat_S", "feat_T", "neck", num_classes=case.meta["num_classes"])
    nearest = nearest_labels(case["labels"], *case["feat_S"].shape[-2:])
    assert torch.equal(nearest, case["labels_nearest"]), "our labels at map size differ from the stored ones"
    inputs = case.inputs("neck", "feat_S", "feat_T", labels=case.labels())
    loss = IntraClassVariation(maps)(inputs)
    return {"loss": loss, **gradients(case, loss)}


def dsd(case: Case) -> dict[str, Tensor]:
    student = {"aux": case["s0"], "neck": case["s1"], "logits": case["logits_S"]}
    teacher = {"aux": case["t0"], "neck": case["t1"], "logits": case["logits_T"]}
    module = DoubleSimilarity(
        Maps(specs(student), specs(teacher)),
        tau=case.meta["csd_tau"],
        lambda_psd=case.meta["lambda_psd"],
        lambda_csd=case.meta["lambda_csd"],
    )
    terms = module(step_inputs(student, teacher))
    loss = torch.stack([value * weight for value, weight in terms.values()]).sum()
    bare = {f"{name}_loss": term.value for name, term in terms.items()}
    return {**bare, "loss": loss, **gradients(case, loss)}


def skds_pairwise(case: Case) -> dict[str, Tensor]:
    maps, share = case.maps("feat_S", "feat_T", "neck"), case.meta["pool_scale"]
    module = PairWise(maps, form=case.meta["kind"], **({"share": share} if share else {}))
    loss = module(case.inputs("neck", "feat_S", "feat_T"))
    return {"loss": loss, **gradients(case, loss)}


def kd_pixelwise(case: Case) -> dict[str, Tensor]:
    kind = case.meta["kind"]
    if kind == "skds_pixelwise" and case.meta["temperature"] == 1.0:
        term = PixelWise(case.maps("logits_S", "logits_T", "logits"))
        loss = term(case.inputs("logits", "logits_S", "logits_T"))
        return {"loss": loss, **gradients(case, loss)}
    module = KD(
        case.maps("logits_S", "logits_T", "logits"),
        T=case.meta["temperature"],
        form={"cirkd": "cirkd", "skds_pixelwise": "skds"}.get(kind, "ifvd"),  # type: ignore[arg-type]
        upsample=8 if kind.endswith("upsample") else 1,
    )
    loss = module(case.inputs("logits", "logits_S", "logits_T"))
    return {"loss": loss, **gradients(case, loss)}


def seg_ce(case: Case) -> dict[str, Tensor]:
    loss = segmentation_ce(case["logits_S"], case.labels())
    if case.meta["aux_weight"]:
        loss = loss + case.meta["aux_weight"] * segmentation_ce(case["aux_logits_S"], case.labels())
    return {"loss": loss, **gradients(case, loss)}


def load(case: Case, module: nn.Module) -> nn.Module:
    return case.load_named(module, weight_name)


def gradients(case: Case, loss: Tensor, *modules: nn.Module) -> dict[str, Tensor]:
    """grad_* and g_* of `loss`, for every leaf and weight that the file has one for."""
    weights = {name: p for module in modules for name, p in module.named_parameters()}
    keys = [k for k in case.arrays if k.startswith("g_")]
    slopes = (
        torch.autograd.grad(loss, [weights[weight_name(k)] for k in keys], retain_graph=True) if keys else ()
    )
    return {**case.input_gradients(loss), **dict(zip(keys, slopes, strict=True))}


def mask_of(case: Case, kind: str, ratio: float) -> Tensor:
    uniform = torch.from_numpy(case.arrays["mask_uniform"])
    drawn = channel_mask(uniform, ratio) if kind == "channel" else spatial_mask(uniform, ratio)
    mask = centre_mask(uniform) if kind == "fixed" else drawn
    if "mask" in case.arrays:
        stored = np.broadcast_to(case.arrays["mask"], uniform.shape)
        assert np.array_equal(mask.expand(uniform.shape).numpy(), stored), (
            "our mask differs from the stored one"
        )
    return mask.to(case.dtype)


def weight_name(key: str) -> str:
    layer, _, kind = key.split("_", 1)[1].rpartition("_")
    return f"{LAYERS[layer]}.{kind}"


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


_ADAPTERS: tuple[Adapter, ...] = (
    afdcd,
    afdcd_objective,
    mgd,
    gdd,
    cwd,
    ifvd,
    dsd,
    skds_pairwise,
    kd_pixelwise,
    seg_ce,
)
ADAPTERS: Mapping[str, Adapter] = {
    **{f"segmentation/{f.__name__}": f for f in _ADAPTERS},
    **golden_dense_learned.ADAPTERS,
}
