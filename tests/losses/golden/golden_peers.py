"""Golden adapters of methods without a cached teacher: what each file's keys mean to our classes."""

from collections.abc import Mapping

import torch
from bare_inputs import specs, step_inputs
from golden_case import Adapter, Case
from torch import Tensor

from kdcache.losses.contract import Facts, Maps, Weighted
from kdcache.losses.peers.byot import OwnTeacher, active_square, matrix_distance, soft_cross_entropy
from kdcache.losses.peers.dafl import DataFree
from kdcache.losses.peers.dml import MutualLearning, official_kl
from kdcache.losses.peers.okddip import DiversePeers, mixed_logits
from kdcache.losses.peers.one import NativeEnsemble
from kdcache.losses.peers.online import online_divergence
from kdcache.losses.supervised.classification import classification_ce

Terms = Mapping[str, Weighted]


def dml(case: Case) -> dict[str, Tensor]:
    """One turn per network, as the official code runs; each one's gradient is its own loss's alone."""
    logits_MBK, count = case["logits"], case.meta["K"]
    student = _peers(logits_MBK)
    module = MutualLearning(Maps(specs(student), {}), students=count, smoothing=case.meta["label_smoothing"])
    answers: dict[str, Tensor] = {}
    total = torch.zeros((), dtype=case.dtype)
    for i in range(count):
        terms = module(step_inputs(student, {}, case["labels"], learner=i))
        answers |= {f"out.ce_{i}": terms["ce"].value, f"out.net_loss_{i}": _sum(terms)}
        total = total + _sum(terms)
        peers = [j for j in range(count) if j != i]
        answers |= {f"out.kl_{i}_from_{j}": official_kl(logits_MBK[i], logits_MBK[j]) for j in peers}
    together = _sum(module(step_inputs(student, {}, case["labels"])))
    assert torch.allclose(together, total), "all networks at once differ from one after the other"
    return {**answers, "out.loss": together, **case.input_gradients(total)}


def dml_okddip(case: Case) -> dict[str, Tensor]:
    meta, student = case.meta, _peers(case["logits"].movedim(2, 0))
    module = MutualLearning(
        Maps(specs(student), {}),
        students=meta["num_branches"],
        form="okddip",
        T=meta["T"],
        pairwise=meta["pairwise"],
    )
    loss = _sum(module(step_inputs(student, {}, case["labels"])))
    return {"out.loss": loss, **case.input_gradients(loss)}


def okddip(case: Case) -> dict[str, Tensor]:
    answers, loss = _okddip(case, detach=False)
    _, cut = _okddip(case, detach=True)
    alternative = torch.autograd.grad(cut, case["feats"], retain_graph=True)[0]
    answers["out.alt_grad_feats_if_targets_detached"] = alternative
    return {**answers, **case.input_gradients(loss)}


def okddip_kl_loss(case: Case) -> dict[str, Tensor]:
    pair, temperature = (case["logits_s"], case["logits_t"]), case.meta["T"]
    loss = online_divergence(*pair, temperature=temperature)
    ce = online_divergence(*pair, temperature=temperature, kind="CE")
    return {"out.loss": loss, "out.ce": ce, **case.input_gradients(loss)}


def one(case: Case) -> dict[str, Tensor]:
    """The trunk's map is one cell: its mean is the file's pooled vector."""
    meta, logits_MBK = case.meta, case["logits"].movedim(2, 0)
    student = {**_peers(logits_MBK), "trunk": case["x_shared"][:, :, None, None]}
    options = {"branches": meta["num_branches"], "T": meta["T"], "alpha": meta["alpha"], "length": 0.0}
    module = NativeEnsemble(Maps(specs(student), {}), **options).to(case.dtype)
    weights = {"linear.weight": "gate_w", "linear.bias": "gate_b", "norm.weight": "bn_w", "norm.bias": "bn_b"}
    _put(case, module.gate, weights)
    terms = module(step_inputs(student, {}, case["labels"]))
    share = meta["consistency_weight"]
    true = terms["ce"].value + terms["ce_mix"].value
    group = terms["branches"].value * terms["branches"].weight
    loss = true + share * group
    gradients = case.input_gradients(loss)
    if case.number == 1:  # README of the golden files: a batch of two through BatchNorm
        case.loosen([key for key in case.arrays if key.startswith("grad.")], 1e-4)
    return {
        "out.loss": loss,
        "out.loss_true": true,
        "out.loss_group": group,
        "out.gate": module.gate(case["x_shared"]),
        "out.ensemble_logits": module.mixed(student["trunk"], logits_MBK),
        **gradients,
    }


def byot_luanyunteng(case: Case) -> dict[str, Tensor]:
    meta, student = case.meta, _exits(case["logits"], case["feats"].flatten(2))
    module = OwnTeacher(
        Maps(specs(student), {}), alpha=meta["alpha"], beta=meta["beta"], T=meta["temperature"]
    )
    loss = _sum(module(step_inputs(student, {}, case["labels"])))
    logits, feats = case["logits"], case["feats"].flatten(2)
    answers = {"out.loss": loss, "out.ce_final": classification_ce(logits[0], case["labels"])}
    for i in range(1, 4):
        soft = soft_cross_entropy(logits[i], logits[0], temperature=meta["temperature"])
        answers[f"out.ce_{i}"] = classification_ce(logits[i], case["labels"])
        answers[f"out.kd_{i}"] = soft * meta["temperature"] ** 2
        answers[f"out.fea_{i}"] = active_square(feats[i], feats[0])
    return {**answers, **case.input_gradients(loss)}


def byot_archiplab(case: Case) -> dict[str, Tensor]:
    """Their index 1 is our exit 3, the deepest, whose adapter takes no part."""
    meta, student = case.meta, _exits(case["logits"], case["feats"])
    module = OwnTeacher(
        Maps(specs(student), {}),
        form="archiplab",
        c=meta["loss_coefficient"],
        g=meta["feature_loss_coefficient"],
        T=meta["temperature"],
    ).to(case.dtype)
    names = {f"adapters.{3 - i}.{kind}": (key, i - 1) for i in (2, 3) for kind, key in LINEAR}
    for name, (key, place) in names.items():
        module.get_parameter(name).data = case[key].detach()[place]
    loss = _sum(module(step_inputs(student, {}, case["labels"])))
    logits, feats, adapt_w = case["logits"], case["feats"], case["adapt_w"]
    adapted = torch.einsum("ebd,ecd->ebc", feats[1:], adapt_w) + case["adapt_b"][:, None]
    answers = {"out.loss": loss, "out.ce_0": classification_ce(logits[0], case["labels"])}
    for i in range(1, 4):
        answers[f"out.ce_{i}"] = classification_ce(logits[i], case["labels"])
        answers[f"out.kd_{i}"] = soft_cross_entropy(logits[i], logits[0], temperature=meta["temperature"])
        answers[f"out.dist_{i}"] = matrix_distance(adapted[i - 1], feats[0])
    answers |= case.input_gradients(loss)
    weights = [adapter.weight for adapter in module.adapters]
    first, second = torch.autograd.grad(loss, weights, retain_graph=True)  # type: ignore[arg-type]
    answers["grad.adapt_w"] = torch.stack([torch.zeros_like(first), second, first])
    return answers


def dafl(case: Case) -> dict[str, Tensor]:
    """What the generator and what the student minimise are added: each reaches its own tensors."""
    meta = case.meta
    teacher = {"logits": case["teacher_logits"], "embedding": case["teacher_feat"]}
    student = {"logits": case["student_logits"]}
    maps = Maps(specs(student), specs(teacher), Facts(input_size=(8, 8)))
    module = DataFree(maps, oh=meta["oh"], ie=meta["ie"], a=meta["a"], latent=2)
    terms = module.generator_loss(teacher["logits"], teacher["embedding"])
    kd = module(step_inputs(student, teacher))
    loss = _sum(terms) + kd
    keys = {"one_hot": "one_hot", "balance": "information_entropy", "activation": "activation"}
    answers = {f"out.loss_{key}": terms[name].value for name, key in keys.items()}
    return {"out.loss": loss, "out.loss_kd": kd, **answers, **case.input_gradients(loss)}


LINEAR = (("weight", "adapt_w"), ("bias", "adapt_b"))


def _okddip(case: Case, *, detach: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Terms and total; the heads of the networks are the file's, their features its inputs."""
    meta, count = case.meta, case.meta["num_branches"]
    feats_MBD = case["feats"].movedim(1, 0)
    logits_MBK = torch.einsum("mbd,mkd->mbk", feats_MBD, case["cls_w"]) + case["cls_b"][:, None]
    student = {**_peers(logits_MBK), **{f"peer{i}.embedding": feats_MBD[i] for i in range(count)}}
    options = {"peers": count, "T": meta["T"], "factor": meta["factor"], "loss": meta["loss"]}
    module = DiversePeers(
        Maps(specs(student), {}), alpha=meta["alpha"], length=0.0, detach=detach, **options
    ).to(case.dtype)
    _put(case, module, {"query.weight": "q_w", "key.weight": "k_w"})
    terms = module(step_inputs(student, {}, case["labels"]))
    share = meta["consistency_weight"]
    values = {name: term.value * term.weight for name, term in terms.items()}
    loss = values["ce_peers"] + values["ce_leader"] + share * (values["peers"] + values["leader"])
    attention = module.attention(feats_MBD[:-1])
    answers = {
        "out.loss": loss,
        "out.loss_true_peers": values["ce_peers"],
        "out.loss_group_peers": values["peers"],
        "out.ce_leader": values["ce_leader"],
        "out.kl_leader": values["leader"],
        "out.attention": attention,
        "out.peer_logits": logits_MBK[:-1].movedim(0, 2),
        "out.peer_targets": mixed_logits(attention, logits_MBK[:-1]).movedim(0, 2),
        "out.leader_logits": logits_MBK[-1],
    }
    return answers, loss


def _put(case: Case, module: torch.nn.Module, names: Mapping[str, str]) -> None:
    """Make the file's leaves the module's own weights, so that gradients reach the leaves."""
    for name, key in names.items():
        owner, _, attribute = name.rpartition(".")
        layer = module.get_submodule(owner)
        del layer._parameters[attribute]
        setattr(layer, attribute, case[key])


def _peers(logits_MBK: Tensor) -> dict[str, Tensor]:
    return {f"peer{i}.logits": logits_BK for i, logits_BK in enumerate(logits_MBK)}


def _exits(logits: Tensor, feats: Tensor) -> dict[str, Tensor]:
    """The files count from the deepest: 0 is the whole network, 1 our exit 3."""
    names = {0: "", 1: "exit3.", 2: "exit2.", 3: "exit1."}
    by_tap = {f"{name}logits": logits[i] for i, name in names.items()}
    return by_tap | {f"{name}embedding": feats[i] for i, name in names.items()}


def _sum(terms: Terms) -> Tensor:
    return torch.stack([term.value * term.weight for term in terms.values()]).sum()


ADAPTERS: Mapping[str, Adapter] = {
    f"classification/{f.__name__}": f
    for f in (
        dml,
        dml_okddip,
        okddip,
        okddip_kl_loss,
        one,
        byot_luanyunteng,
        byot_archiplab,
        dafl,
    )
}
