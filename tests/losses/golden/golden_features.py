"""Golden adapters of losses on features and embeddings: what each file's keys mean to our classes."""

from collections.abc import Mapping

import torch
from bare_inputs import spec, step_inputs
from golden_case import Adapter, Case
from torch import Tensor, nn
from torch.func import functional_call

from kdcache.losses.contract import LossTerm, Maps, Weighted
from kdcache.losses.features.at import AttentionTransfer
from kdcache.losses.features.crd import ContrastiveRepresentation
from kdcache.losses.features.fitnet import FitNet
from kdcache.losses.features.pkd import PearsonFeatures
from kdcache.losses.features.reviewkd import Review
from kdcache.losses.features.rkd import Relations
from kdcache.losses.features.rkd_a import Angles
from kdcache.losses.features.rkd_d import distance_loss
from kdcache.losses.features.rotations import TURNS, kept_rows, similarity, true_rank
from kdcache.losses.features.sskd import SelfSupervision, head_loss, own_columns
from kdcache.losses.schedules import TermSchedule
from kdcache.losses.supervised.classification import classification_ce

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5}  # what stands where the exact value is 0


def fitnet(case: Case) -> dict[str, Tensor]:
    module = FitNet(case.maps("feat_S", "feat_T", "neck"))
    case.load_named(module, lambda key: key.replace("w_conv_", "regressors.0."))
    loss = module(case.inputs("neck", "feat_S", "feat_T"))
    (slope,) = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return {"loss": loss, "g_conv_weight": slope, **case.input_gradients(loss)}


def at(case: Case) -> dict[str, Tensor]:
    module = AttentionTransfer(case.maps("feat_S", "feat_T", "neck"))
    loss = module(case.inputs("neck", "feat_S", "feat_T"))
    return {"loss": loss, **case.input_gradients(loss)}


def pkd(case: Case) -> dict[str, Tensor]:
    return _pkd(case, "feat_S", "feat_T", "loss")


def pkd_mmrazor(case: Case) -> dict[str, Tensor]:
    return _pkd(case, "feat_s", "feat_t", "out.loss")


def _pkd(case: Case, student: str, teacher: str, key: str) -> dict[str, Tensor]:
    side = "student" if case.meta["resize_stu"] else "teacher"
    module = PearsonFeatures(case.maps(student, teacher, "neck"), resize=side)
    loss = case.meta["loss_weight"] * module(case.inputs("neck", student, teacher))
    return {key: loss, **case.input_gradients(loss)}


def fitnets(case: Case) -> dict[str, Tensor]:
    """RepDistiller's regressor, or lenscloth's with its random weights."""
    maps = case.maps("feat_s", "feat_t", "stage2")
    if "lenscloth" in case.meta["variant"]:
        module = FitNet(maps, taps="stage2", form="lenscloth")
        names = {"regressors.0.weight": "w"}
    else:
        module = FitNet(maps, taps="stage2", form="repdistiller", relu=case.meta["use_relu"])
        layers = {"conv": "conv", "norm": "bn"}
        names = {
            f"regressors.0.{ours}.{kind}": f"reg_{theirs}_{kind[0]}"
            for ours, theirs in layers.items()
            for kind in ("weight", "bias")
        }
    weights = {name: case[key] for name, key in names.items()}
    loss = _called(module, weights, case.inputs("stage2", "feat_s", "feat_t"))
    answers = {"out.loss": loss, **case.input_gradients(loss)}
    if "out.regressed" in case.expected():
        regressor = module.regressors[0].to(case.dtype)
        inner = {name.removeprefix("regressors.0."): value for name, value in weights.items()}
        answers["out.regressed"] = functional_call(regressor, inner, (case["feat_s"],))
        # A bias in front of batch norm has no effect: its slope is exactly 0.
        answers["grad.reg_conv_b"] = zero_of(case, "grad.reg_conv_b", answers["grad.reg_conv_b"])
    return answers


def rkd_d(case: Case) -> dict[str, Tensor]:
    """The bare formula: of one row the term makes 0 and the published code no number."""
    loss = distance_loss(case["emb_s"], case["emb_t"])
    answers = {"out.loss": loss, **case.input_gradients(loss)}
    if "duplicate" in case.meta["note"]:
        case.loosen(answers, 1e-4)
    return answers


def rkd_a(case: Case) -> dict[str, Tensor]:
    loss = Angles(case.maps("emb_s", "emb_t", "embedding"))(case.inputs("embedding", "emb_s", "emb_t"))
    answers = {"out.loss": loss, **case.input_gradients(loss)}
    if len(case["emb_s"]) > 2:
        return answers
    return {key: zero_of(case, key, value) for key, value in answers.items()}  # two rows span no angle


def rkd_da_repdistiller(case: Case) -> dict[str, Tensor]:
    maps = case.maps("emb_s", "emb_t", "embedding")
    module = Relations(maps, distance=case.meta["w_d"], angle=case.meta["w_a"])
    terms = module(case.inputs("embedding", "emb_s", "emb_t"))
    loss = _summed(terms)
    distance, angle = terms["distance"].value, terms["angle"].value
    return {"out.loss": loss, "out.rkd_d": distance, "out.rkd_a": angle, **case.input_gradients(loss)}


def crd(case: Case) -> dict[str, Tensor]:
    """Two steps on the same rows: the second one reads what the first has written."""
    meta, idx = case.meta, case["idx"]
    size = meta["n_data"]
    maps = case.maps("feat_s", "feat_t", "embedding", num_samples=size, labels_N=torch.arange(size))
    module = ContrastiveRepresentation(
        maps, dim=meta["feat_dim"], negatives=meta["nce_k"], T=meta["nce_t"], momentum=meta["nce_m"]
    ).to(case.dtype)
    stored = {"embed_student.weight": "ws", "embed_student.bias": "bs"}
    stored |= {"embed_teacher.weight": "wt", "embed_teacher.bias": "bt"}
    stored |= {"memory_student_ND": "mem_v1", "memory_teacher_ND": "mem_v2"}
    values = {name: case[key] for name, key in stored.items()}
    module.load_state_dict({**values, "scales_2": torch.zeros(2)}, strict=True)
    inputs = case.inputs("embedding", "feat_s", "feat_t", samples_B=idx)
    loss = module(inputs, compared_BC=case["contrast_idx"])
    answers = {"out.loss": loss, "out.Z_v1": module.scales_2[0], "out.Z_v2": module.scales_2[1]}
    answers |= {"out.mem_v1_after": module.memory_student_ND, "out.mem_v2_after": module.memory_teacher_ND}
    answers = {key: value.clone() for key, value in answers.items()} | case.input_gradients(loss)
    answers["out.second_call_loss"] = module(inputs, compared_BC=case["contrast_idx"])
    return answers


def reviewkd(case: Case) -> dict[str, Tensor]:
    meta = case.meta
    taps = tuple(f"level{n}" for n in range(len(meta["in_channels"])))
    student = {tap: case[f"feat_s{n}"] for n, tap in enumerate(taps)}
    teacher = {tap: case[f"feat_t{n}"] for n, tap in enumerate(taps)}
    module = Review(
        Maps({t: spec(v) for t, v in student.items()}, {t: spec(v) for t, v in teacher.items()}),
        taps="/".join(taps),
        hints="same",
    )
    layers = {"conv1": "narrow", "conv2": "out", "att_conv.0": "gate"}
    given = [key.removeprefix("in.") for key in case.arrays if key.startswith("in.p.")]
    weights = {}
    for key in given:
        _, level, rest = key.split(".", 2)
        published = next(name for name in layers if rest.startswith(name))
        weights[f"levels.{level}.{rest.replace(published, layers[published])}"] = case[key]
    assert set(weights) == {name for name, _ in module.named_parameters()}
    bare = _called(module, weights, step_inputs(student, teacher))
    # The published epochs count from 1.
    loss = meta["weight"] * TermSchedule(warmup=meta["warmup"]).factor(meta["epoch"] - 1) * bare
    return {"out.loss": loss, "out.hcl": bare, **case.input_gradients(loss)}


def sskd(case: Case) -> dict[str, Tensor]:
    """`emb_*` are what the heads answer. Equal ranks were cut in no order: our rows must have the same ranks,
    and the values are compared on the stored rows.
    """
    meta, labels = case.meta, case["labels"]
    maps = Maps(*({"embedding": spec(case[f"emb_{s}"]), "logits": spec(case[f"logits_{s}"])} for s in "st"))
    module = SelfSupervision(
        maps,
        **dict(zip(("kd", "tf", "ss"), meta["weights"][1:], strict=True)),
        T=meta["T"][0],
        ss_T=meta["T"][2],
        ratio_tf=meta["ratio_tf"],
        ratio_ss=meta["ratio_ss"],
    ).to(case.dtype)
    assert meta["T"][0] == meta["T"][1]
    module.student_head, module.teacher_head = nn.Identity(), nn.Identity()
    module.head_steps += 1
    teacher_RB = similarity(case["emb_t"])
    stored = _sskd_rows(case, teacher_RB)
    kept = {key[4:6]: _mask(index, len(teacher_RB)) for key, index in stored.items()}
    module.kept = lambda *_: (kept["tf"], kept["ss"])  # type: ignore[method-assign]
    sides = ({"embedding": case[f"emb_{s}"], "logits": case[f"logits_{s}"]} for s in "st")
    terms = module(step_inputs(*sides, labels.repeat_interleave(4), rows_per_sample=4))
    ce = classification_ce(case["logits_s"][::4], labels)
    loss = meta["weights"][0] * ce + _summed(terms)
    bare = {"out.loss2_kd": "kd", "out.loss3_tf": "tf", "out.loss4_ss": "ss"}
    return {
        **stored,
        "out.loss": loss,
        "out.loss1_ce": ce,
        **{key: terms[name].value for key, name in bare.items()},
        "out.s_simi": similarity(case["emb_s"]),
        "out.teacher_ssp_loss": head_loss(teacher_RB),
        **case.input_gradients(loss),
    }


def _sskd_rows(case: Case, teacher_RB: Tensor) -> dict[str, Tensor]:
    """The rows that the published code kept, by key."""
    meta, labels = case.meta, case["labels"]
    turned = case["logits_t"].reshape(len(labels), 1 + TURNS, -1)[:, 1:].flatten(0, 1)
    ranks = {
        "tf": true_rank(turned, labels.repeat_interleave(TURNS)),
        "ss": true_rank(teacher_RB, own_columns(teacher_RB)),
    }
    keys = {kind: f"out.{kind}_kept_index" for kind in ranks}
    return {key: _same_ranks(case, key, ranks[kind], meta[f"ratio_{kind}"]) for kind, key in keys.items()}


def _same_ranks(case: Case, key: str, rank_R: Tensor, ratio: float) -> Tensor:
    """The stored rows, after a check that ours are as many of every rank."""
    stored = torch.from_numpy(case.expected()[key])
    ours = kept_rows(rank_R, ratio).nonzero().flatten()
    assert torch.equal(rank_R[ours].sort()[0], rank_R[stored].sort()[0]), f"{key}: rows of other ranks"
    return stored


def _mask(index: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill(0, index, True)


def _called(module: LossTerm, weights: Mapping[str, Tensor], inputs: object) -> Tensor:
    """The term with the case's own leaves in the place of its weights."""
    value: Tensor = functional_call(module.to(next(iter(weights.values())).dtype), dict(weights), (inputs,))
    return value


def _summed(terms: Mapping[str, Weighted]) -> Tensor:
    return torch.stack([term.weight * term.value for term in terms.values()]).sum()


def zero_of(case: Case, key: str, ours: Tensor) -> Tensor:
    """The stored value, where the exact one is 0 and both sides hold nothing but rounding."""
    stored = torch.from_numpy(case.expected()[key])
    for name, value in (("ours", ours), ("stored", stored)):
        assert value.detach().abs().max() <= ROUNDING[case.dtype], f"{key} should be 0, {name} is not"
    return stored


_SEGMENTATION = (fitnet, at, pkd)
_CLASSIFICATION = (crd, fitnets, reviewkd, rkd_a, rkd_d, rkd_da_repdistiller, sskd)
ADAPTERS: Mapping[str, Adapter] = {
    **{f"segmentation/{f.__name__}": f for f in _SEGMENTATION},
    **{f"classification/{f.__name__}": f for f in _CLASSIFICATION},
    "detection/pkd_mmrazor": pkd_mmrazor,
}
