"""Golden adapters of losses on class scores: what each file's keys mean to our classes."""

from collections.abc import Mapping
from typing import Any

import torch
from bare_inputs import specs, step_inputs
from golden_case import Adapter, Case
from torch import Tensor

from kdcache.losses.contract import LossTerm, Maps, Weighted
from kdcache.losses.logits.dist import Dist
from kdcache.losses.logits.dkd import DecoupledKD
from kdcache.losses.logits.kd import KD
from kdcache.losses.logits.label_smoothing import LabelSmoothing
from kdcache.losses.logits.nkd import NormalisedKD
from kdcache.losses.logits.tfkd_reg import VirtualTeacher
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.schedules import TermSchedule
from kdcache.losses.supervised.classification import classification_ce

FLAT_T = 20.0  # there a KL is a difference of nearly equal numbers: README of the golden files


def hinton_kd(case: Case) -> dict[str, Tensor]:
    """RepDistiller's and mdistiller's KL are one formula."""
    meta = case.meta
    kl = _one(KD, case, case["logits_t"], form="repdistiller", T=meta["T"])
    ce = classification_ce(case["logits_s"], case["labels"])
    loss = meta["ce_weight"] * ce + meta["kd_weight"] * kl
    _flat(case, meta["T"])
    answers = {"out.loss": loss, "out.ce": ce, "out.kl": kl, "out.kl_mdistiller": kl}
    return {**answers, **case.input_gradients(loss)}


def ensemble_kd(case: Case) -> dict[str, Tensor]:
    """The target is the mean of the logits. For the contrast, T log p has the softmax p at temperature T."""
    meta, several_EBK = case.meta, case["logits_t"]
    kl = _one(KD, case, several_EBK.mean(0), form="repdistiller", T=meta["T"])
    mixture_BK = meta["T"] * (several_EBK / meta["T"]).softmax(2).mean(0).log()
    ce = classification_ce(case["logits_s"], case["labels"])
    loss = meta["ce_weight"] * ce + meta["kd_weight"] * kl
    _flat(case, meta["T"])
    return {
        "out.loss": loss,
        "out.ce": ce,
        "out.kl_mean_logits": kl,
        "out.kl_mean_probs": _one(KD, case, mixture_BK, form="repdistiller", T=meta["T"]),
        **case.input_gradients(loss),
    }


def dkd(case: Case) -> dict[str, Tensor]:
    """`out.dkd` is stored as it is before the warm-up, which only the total has."""
    meta = case.meta
    options = {name: meta[name] for name in ("T", "alpha", "beta")}
    terms = _terms(DecoupledKD, case, case["logits_t"], **options)
    ce = classification_ce(case["logits_s"], case["labels"])
    summed = _sum(terms)
    factor = TermSchedule(warmup=meta["warmup"]).factor(meta["epoch"] - 1)  # published epochs start at 1
    loss = meta["ce_weight"] * ce + factor * summed
    tckd, nckd = terms["tckd"].value, terms["nckd"].value
    answers = {"out.loss": loss, "out.ce": ce, "out.dkd": summed, "out.tckd": tckd, "out.nckd": nckd}
    return {**answers, **case.input_gradients(loss)}


def nkd(case: Case) -> dict[str, Tensor]:
    labels = case["labels"].argmax(1) if case.meta["soft_labels"] else case["labels"]
    options = {"T": case.meta["temp"], "gamma": case.meta["gamma"]}
    terms = _terms(NormalisedKD, case, case["logits_t"], labels=labels, **options)
    loss = _sum(terms)
    answers = {"out.loss": loss, "out.loss_target": terms["target"].value}
    others = terms["others"].value * terms["others"].weight
    return {**answers, "out.loss_non": others, **case.input_gradients(loss)}


def dist(case: Case) -> dict[str, Tensor]:
    options = {name: case.meta[name] for name in ("tau", "beta", "gamma")}
    terms = _terms(Dist, case, case["logits_t"], **options)
    loss = _sum(terms)
    answers = {"out.loss": loss, **{f"out.{name}": terms[name].value for name in ("inter", "intra")}}
    return {**answers, **case.input_gradients(loss)}


def dist_segmentation(case: Case) -> dict[str, Tensor]:
    meta, pair = case.meta, ("logits_S", "logits_T")
    maps = case.maps(*pair, "logits")
    module = Dist(maps, tau=meta["tau"], beta=meta["beta_inter"], gamma=meta["gamma_intra"])
    loss = _sum(module(case.inputs("logits", *pair)))
    return {"loss": loss, **case.input_gradients(loss)}


def tfkd_self(case: Case) -> dict[str, Tensor]:
    """Through the expression, so that the weight of the task loss is tested too."""
    meta = case.meta
    options = f"alpha={meta['alpha']},T={meta['temperature']}"
    answers, ce = _whole_run(case, f"tfkd-self({options},multiplier={meta['multiplier']})", case["logits_t"])
    kd, _ = _whole_run(case, f"tfkd-self({options},multiplier=1)", case["logits_t"])
    _flat(case, meta["temperature"])
    return {**answers, "out.ce": ce, "out.loss_kd_no_multiplier": kd["out.loss"]}


def tfkd_reg(case: Case) -> dict[str, Tensor]:
    meta = case.meta
    options = f"alpha={meta['reg_alpha']},T={meta['reg_temperature']},correct={meta['correct_prob']}"
    answers, ce = _whole_run(case, f"tfkd-reg({options},multiplier={meta['multiplier']})", None)
    virtual = VirtualTeacher(
        Maps(specs({"logits": case["logits_s"]}), {}),
        alpha=meta["reg_alpha"],
        T=meta["reg_temperature"],
        multiplier=meta["multiplier"],
        correct=meta["correct_prob"],
    )
    term = virtual(step_inputs({"logits": case["logits_s"]}, {}, case["labels"]))["kl"]
    return {**answers, "out.ce": ce, "out.soft_term": term.value * meta["multiplier"]}


def label_smoothing_tfkd(case: Case) -> dict[str, Tensor]:
    student = {"logits": case["logits_s"]}
    module = LabelSmoothing(Maps(specs(student), {}), alpha=case.meta["alpha"])
    loss = module(step_inputs(student, {}, case["labels"]))
    torchs = classification_ce(case["logits_s"], case["labels"], smoothing=0.1)
    return {"out.loss": loss, "out.torch_ce_ls01": torchs, **case.input_gradients(loss)}


def _terms(
    kind: type[LossTerm], case: Case, teacher: Tensor, *, labels: Tensor | None = None, **options: Any
) -> Any:
    """What a term of `kind` answers for the case's student and `teacher`."""
    student, target = {"logits": case["logits_s"]}, {"logits": teacher}
    if labels is None and "in.labels" in case.arrays:
        labels = case["labels"]
    module = kind(Maps(specs(student), specs(target)), **options)  # type: ignore[call-arg]
    return module(step_inputs(student, target, labels))


def _one(kind: type[LossTerm], case: Case, teacher: Tensor, **options: Any) -> Tensor:
    value = _terms(kind, case, teacher, **options)
    assert isinstance(value, Tensor)
    return value


def _sum(terms: Mapping[str, Weighted]) -> Tensor:
    return torch.stack([term.value * term.weight for term in terms.values()]).sum()


def _whole_run(case: Case, expression: str, teacher: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
    """Total and gradients of a whole expression, and its bare cross-entropy."""
    student = {"logits": case["logits_s"]}
    target = {} if teacher is None else {"logits": teacher}
    plan = parse_losses(expression, preset=None, task="classification")
    values = plan.build(student=specs(student), teacher=specs(target))(
        step_inputs(student, target, case["labels"])
    )
    answers = {"out.loss": values.total, **case.input_gradients(values.total)}
    return answers, values.unweighted["task"]


def _flat(case: Case, temperature: float) -> None:
    if temperature >= FLAT_T:
        case.loosen(case.expected(), 1e-4)


ADAPTERS: Mapping[str, Adapter] = {
    "segmentation/dist": dist_segmentation,
    **{
        f"classification/{f.__name__}": f
        for f in (
            hinton_kd,
            ensemble_kd,
            dkd,
            nkd,
            dist,
            tfkd_self,
            tfkd_reg,
            label_smoothing_tfkd,
        )
    },
}
