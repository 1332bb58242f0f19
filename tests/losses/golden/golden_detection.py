"""Golden adapters of losses on dense detectors: what each file's keys mean to our classes."""

from collections.abc import Mapping

import torch
from bare_inputs import specs, step_inputs
from golden_case import Adapter, Case
from golden_features import zero_of
from golden_heads import BCKDS_CODE, OWN_CODE, head_inputs, head_maps, task_answers, weighted
from torch import Tensor
from torch.func import functional_call

from kdcache.losses.contract import Facts, Maps, Weighted
from kdcache.losses.detection.bckd import (
    EPSILON,
    BinaryClassification,
    box_distance,
    class_distance,
    shared_out,
)
from kdcache.losses.detection.fgd import FocalGlobal
from kdcache.losses.detection.gid import box_response, class_response, feature_distance, relation_distance
from kdcache.losses.detection.ld import LocalisationDistillation, mean_divergence
from kdcache.losses.detection.regions import overlap_less_distance, valuable_regions

Terms = Mapping[str, Weighted]
REGION_TOLERANCE = 1e-4  # in float32, by the files' README: the published code subtracts close numbers
CONTEXT = {  # name in the published code: ours
    "conv_mask_{}": "attend",
    "channel_add_conv_{}.0": "first",
    "channel_add_conv_{}.1": "norm",
    "channel_add_conv_{}.3": "last",
}


def bckd_cls(case: Case) -> dict[str, Tensor]:
    rows = class_distance(case["pred"], case["soft"], beta=case.meta["beta"])
    weighted = rows * _weight(case, rows)
    loss = case.meta["loss_weight"] * _reduced(case, weighted, EPSILON)
    return {"out.loss": loss, "out.per_row_weighted": weighted, **case.input_gradients(loss)}


def bckd_iou(case: Case) -> dict[str, Tensor]:
    rows = box_distance(case["pred"], case["target"])
    loss = case.meta["loss_weight"] * shared_out(rows, case["weight"], case.meta["avg_factor"])
    slopes = case.input_gradients(loss)
    if case.meta["kind"] == "identical":  # the slope of equal boxes is 0, shared by the corners
        slopes = {key: zero_of(case, key, value) for key, value in slopes.items()}
    return {"out.loss": loss, "out.one_minus_giou": rows, **slopes}


def ld(case: Case) -> dict[str, Tensor]:
    rows = mean_divergence(case["pred"], case["soft"], temperature=case.meta["T"])
    loss = case.meta["loss_weight"] * _reduced(case, rows * _weight(case, rows), 0.0)
    return {"out.loss": loss, **case.input_gradients(loss)}


def ld_vlr_region(case: Case) -> dict[str, Tensor]:
    anchors, objects = case["anchors"], case["gt"]
    region = valuable_regions(anchors, objects, tuple(case.meta["num_level_anchors"]))
    close = overlap_less_distance(anchors[:, None], objects)
    answers = {"out.loss": region.sum(), "out.vlr_region": region, "out.diou_as_coded": close}
    case.loosen(answers, REGION_TOLERANCE)
    return answers


def bckd_head_gfl(case: Case) -> dict[str, Tensor]:
    """Task and distillation of a whole head, with the assignment of the file."""
    kd, iou = case.meta["kd_weight"], case.meta["iou_weight"]
    inputs = head_inputs(case)
    cls, loc = weighted(BinaryClassification(head_maps(case), cls=kd, loc=iou), inputs).values()
    answers, task = task_answers(case, inputs, BCKDS_CODE)
    answers |= {"out.loss_kd": cls, "out.loss_score_kd": loc, "out.distill_only": cls + loc}
    switched_off = ("ld", "ld_vlr", "kd_neg", "im", "score_kd_vlr")
    zeros = {f"out.loss_{name}": torch.zeros(()) for name in switched_off}
    loss = task + cls + loc
    return {**answers, **zeros, "out.loss": loss, **case.input_gradients(loss)}


def ld_head_gfl(case: Case) -> dict[str, Tensor]:
    """As above, and the region of the file; its total is the distillation's."""
    meta, inputs = case.meta, head_inputs(case)
    options = {"main": meta["w_ld"], "vlr": meta["w_vlr"], "kd": meta["w_kd"]}
    module = LocalisationDistillation(head_maps(case), T=meta["T_ld"], kd_T=meta["T_kd"], **options)
    main, vlr, kd = weighted(module, inputs, regions=case["vlr_region"]).values()
    answers, _ = task_answers(case, inputs, OWN_CODE)
    answers |= {"out.loss_ld": main, "out.loss_ld_vlr": vlr, "out.loss_kd": kd}
    zeros = {f"out.loss_{name}": torch.zeros(()) for name in ("kd_neg", "im")}
    loss = main + vlr + kd
    return {**answers, **zeros, "out.loss": loss, **case.input_gradients(loss)}


def fgd(case: Case) -> dict[str, Tensor]:
    meta, objects = case.meta, case["gt_bboxes"]
    student, teacher = {"p3": case["feat_s"]}, {"p3": case["feat_t"]}
    maps = Maps(specs(student), specs(teacher), Facts(input_size=tuple(meta["img_shape"])))
    settings = {name: meta[name] for name in ("temp", "alpha", "beta", "gamma")}
    module = FocalGlobal(maps, taps="p3", relation=meta["lam"], **settings)
    names = {f"levels.0.align.{kind}": f"p.align.{kind}" for kind in ("weight", "bias")}
    for side, ours in (("s", "student"), ("t", "teacher")):
        for theirs, layer in CONTEXT.items():
            for kind in ("weight", "bias"):
                names[f"levels.0.{ours}_context.{layer}.{kind}"] = f"p.{theirs.format(side)}.{kind}"
    weights = {ours: case[key] for ours, key in names.items() if f"in.{key}" in case.arrays}
    assert set(weights) == {name for name, _ in module.named_parameters()}
    truth = torch.cat([objects, torch.zeros_like(objects[..., :1])], dim=2)
    terms = functional_call(module.to(case.dtype), weights, (step_inputs(student, teacher, truth),))
    loss = _summed(terms)
    bare = {f"out.{name}": term.value for name, term in terms.items()}
    return {**bare, "out.loss": loss, **case.input_gradients(loss)}


def gid(case: Case) -> dict[str, Tensor]:
    """The four terms for the file's instances and anchors."""
    meta, chosen = case.meta, case["mask"].bool()
    count = max(int(chosen.sum()), 1)
    cls = class_response(case["cls_s"][chosen], case["cls_t"][chosen]) / count
    box = box_response(case["reg_s"][chosen], case["reg_t"][chosen]) / count
    terms = {
        "out.feature": meta["feature_w"] * feature_distance(case["roi_s"], case["roi_t"]),
        "out.relation": meta["relation_w"] * relation_distance(case["roi_s"], case["roi_t"]),
        "out.response_cls": meta["cls_w"] * cls,
        "out.response_reg": meta["reg_w"] * box,
    }
    loss = torch.stack(list(terms.values())).sum()
    return {**terms, "out.loss": loss, **case.input_gradients(loss)}


def _weight(case: Case, rows: Tensor) -> Tensor:
    return case["weight"] if "in.weight" in case.arrays else torch.ones_like(rows)


def _reduced(case: Case, weighted: Tensor, epsilon: float) -> Tensor:
    """Over the file's divisor, or the mean over rows where it has none."""
    divisor = case.meta["avg_factor"]
    return weighted.mean() if divisor is None else weighted.sum() / (divisor + epsilon)


def _summed(terms: Terms) -> Tensor:
    return torch.stack([value * weight for value, weight in terms.values()]).sum()


ADAPTERS: Mapping[str, Adapter] = {
    f"detection/{f.__name__}": f
    for f in (bckd_cls, bckd_iou, bckd_head_gfl, ld, ld_head_gfl, ld_vlr_region, fgd, gid)
}
