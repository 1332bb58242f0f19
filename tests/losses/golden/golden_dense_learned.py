"""Golden adapters of losses on maps with a critic or a memory: sequences of forwards, states afterwards."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from bare_inputs import step_inputs
from golden_case import Adapter, Case
from torch import Tensor

from kdcache.cache.spec import IGNORE
from kdcache.losses.dense.adversarial import between, fooling_loss, gradient_penalty, telling_loss, with_image
from kdcache.losses.dense.cirkd import CrossImage, batch_relations
from kdcache.losses.dense.critic import Critic
from kdcache.losses.dense.skds_holistic import Holistic

CRITIC_IN_FLOAT32 = 1e-4  # the files' README excepts skds_holistic
# Second derivatives: in float32 one of c0's 131072 units at the first LeakyReLU falls on the other side of 0
# than in float64, which alone moves them by 6e-4 to 9e-4. Beyond what the test itself compares.
PENALTY_GRADIENTS_IN_FLOAT32 = 3e-3
CRITIC_LAYERS = {"preprocess_additional": "norm", "last_0": "last"}
CRITIC_LAYERS |= {f"l{level + 1}_0_module": f"levels.{level}" for level in range(4)}
CRITIC_LAYERS |= {
    f"attn{number}_{theirs}": f"attention.{number + 1}.{ours}"
    for number in (1, 2)
    for theirs, ours in (("query_conv", "query"), ("key_conv", "key"), ("value_conv", "value"))
}
CRITIC_KINDS = {"weight_bar": "weight", "weight_u": "u", "weight_v": "v", "weight": "weight", "bias": "bias"}


def skds_holistic(case: Case) -> dict[str, Tensor]:
    """The student's forward, then the critic's own step; and the penalty alone from the initial state."""
    case.loosen(case.arrays, CRITIC_IN_FLOAT32)
    case.loosen(_named(case, "gp_only_g_"), PENALTY_GRADIENTS_IN_FLOAT32)
    meta, student, teacher = case.meta, case["logits_S"], case["logits_T"]
    first = "student" if meta["order"].endswith("D(S),D(T)") else "teacher"
    maps = case.maps("logits_S", "logits_T", "logits")
    scaling = {1: "batchnorm", 2: "tanh", 3: "rescale"}[meta["preprocess_GAN_mode"]]
    term = Holistic(maps, adversarial=meta["adv"], preprocess=scaling, first=first, lambda_d=1.0)
    load_critic(case, term.critic, "skds_holistic_weights.npz")
    term.draw_shares = lambda _: case["gp_alpha"].flatten()  # type: ignore[method-assign]
    inputs = case.inputs("logits", "logits_S", "logits_T")

    fooled = term(inputs)
    weights = {"gG_l1_weight_bar": term.critic.levels[0].weight, "gG_last_weight": term.critic.last.weight}
    for key, grad in _gradients(fooled, weights):
        check(case, key, grad)
    answers = {"g_loss": fooled, **case.input_gradients(fooled), "loss": term.rival_loss(inputs)}

    again = fresh_critic(case, "skds_holistic_weights.npz")
    check(case, "d_out_G", again(student))
    maps_of = {"d_out_S": student.detach(), "d_out_T": teacher}
    order = sorted(maps_of, reverse=first == "teacher")
    judged = {key: again(maps_of[key]) for key in order}
    for key, scores in judged.items():
        check(case, key, scores)
    check(case, "g_loss", fooling_loss(fresh_critic(case, "skds_holistic_weights.npz")(student)))
    answers["d_loss"] = telling_loss(judged["d_out_T"], judged["d_out_S"], adversarial=meta["adv"])
    if meta["adv"] == "wgan-gp":
        answers |= _penalties(case, again)
    return answers


def _penalties(case: Case, moved: Critic) -> dict[str, Tensor]:
    """The penalty after the other forwards, and from the initial state with its gradients."""
    mixed = between(case["logits_T"], case["logits_S"], case["gp_alpha"].flatten())
    fresh = fresh_critic(case, "skds_holistic_weights.npz")
    alone = gradient_penalty(fresh, mixed)
    weights = {
        "gp_only_g_l1_weight_bar": fresh.levels[0].weight,
        "gp_only_g_last_weight": fresh.last.weight,
        "gp_only_g_attn1_query": fresh.attention["2"].query.weight,
    }
    for key, grad in _gradients(alone, weights):
        check(case, key, grad)
    return {"gp_loss": gradient_penalty(moved, mixed), "gp_only_loss": alone}


def skds_holistic_conditional(case: Case) -> dict[str, Tensor]:
    case.loosen(case.expected(), CRITIC_IN_FLOAT32)
    seen = with_image(case["image"], case["logits_S"])
    critic = load_critic(case, Critic(seen.shape[1], scaling="none"), "skds_cond_weights.npz")
    scores = critic(seen)
    check(case, "d_out", scores.squeeze())
    loss = fooling_loss(scores)
    return {"d_out": scores.squeeze(), "loss": loss, **case.input_gradients(loss)}


def cirkd_minibatch(case: Case) -> dict[str, Tensor]:
    pool = 2 if case.meta["pooling"] else 1
    loss = batch_relations(case["feat_S"], case["feat_T"], tau=case.meta["temperature"], pool=pool)
    return {"loss": loss, **case.input_gradients(loss)}


def cirkd_memory(case: Case) -> dict[str, Tensor]:
    meta = case.meta
    num_classes = meta["num_classes"]
    term = CrossImage(
        case.maps("feat_S", "feat_T", "neck", num_classes=num_classes),
        lambda_batch=0.0,
        lambda_pixel=meta["lambda_pixel"],
        lambda_region=meta["lambda_region"],
        tau=meta["contrast_temperature"],
        T=meta["contrast_kd_temperature"],
        pixel_memory=meta["pixel_memory_size"],
        region_memory=meta["region_memory_size"],
        contrast_pixels=max((meta["pixel_contrast_size"] - 1) * num_classes, 1),
        contrast_regions=max((meta["region_contrast_size"] - 1) * num_classes, 1),
        enqueue=meta["pixel_update_freq"],
    ).to(case.dtype)
    weights = {f"w_project_head_{n}": f"projector.{n}" for n in (0, 1, 3)}
    own = {k: v for k, v in term.state_dict().items() if "running" not in k and "batches" not in k}
    stored = {f"{weights[k.rpartition('_')[0]]}.{k.rpartition('_')[2]}": k for k in _named(case, "w_")}
    stored |= {f"memory.{ours}": f"{theirs}_init" for theirs, ours in MEMORY.items()}
    assert stored.keys() == own.keys(), "a weight or buffer without its array, or the reverse"
    with torch.no_grad():
        for name, key in stored.items():
            own[name].copy_(torch.from_numpy(case.arrays[key]))
    labels = case["labels"].masked_fill(case["labels"] == meta["ignore"], IGNORE)
    recorded = _recorded(case)
    inputs = step_inputs({"neck": case["feat_S"]}, {"neck": case["feat_T"]}, labels)
    terms = term(inputs, permute=lambda count: next(recorded)(count))
    assert next(recorded, None) is None, "a recorded permutation was not asked for"
    for theirs, ours in MEMORY.items():
        check(case, f"{theirs}_final", getattr(term.memory, ours))
    loss = torch.stack([value * weight for value, weight in terms.values()]).sum()
    learned = dict(term.named_parameters())
    keys = {f"g_{k.removeprefix('w_')}": learned[ours] for ours, k in stored.items() if k.startswith("w_")}
    slopes = dict(_gradients(loss, keys))
    bare = {f"{name}_loss": value.value for name, value in terms.items()}
    return {**bare, "loss": loss, **case.input_gradients(loss), **slopes}


MEMORY = {
    "pixel_queue": "pixels_KPD",
    "region_queue": "regions_KRD",
    "pixel_ptr": "next_pixel_K",
    "region_ptr": "next_region_K",
}


def load_critic(case: Case, critic: Critic, file: str) -> Critic:
    """The weights beside the case's file; one left over on either side fails."""
    with np.load(case.folder / file, allow_pickle=False) as stored:
        weights = {_critic_name(k): torch.from_numpy(stored[k]).to(case.dtype) for k in stored}
    critic.to(case.dtype).load_state_dict(weights, strict=True)
    return critic


def fresh_critic(case: Case, file: str) -> Critic:
    scaling: Any = {1: "batchnorm", 2: "tanh", 3: "rescale"}[case.meta["preprocess_GAN_mode"]]
    return load_critic(case, Critic(case.meta["in_channels"], scaling=scaling), file)


def check(case: Case, key: str, value: Tensor) -> None:
    """For arrays beside the losses and input gradients that the test itself compares."""
    wanted = case.arrays[key]
    error = np.abs(value.detach().numpy() - wanted).max() / max(np.abs(wanted).max(), 1e-300)
    assert value.shape == wanted.shape, key
    assert error <= case.tolerance(key), f"{key} is off by {error:.1e} of its largest value"


def _critic_name(key: str) -> str:
    name = key.removeprefix("w_")
    if name.endswith("gamma"):
        return f"attention.{int(name[4]) + 1}.gamma"
    layer = next(layer for layer in CRITIC_LAYERS if name.startswith(f"{layer}_"))
    return f"{CRITIC_LAYERS[layer]}.{CRITIC_KINDS[name.removeprefix(f'{layer}_')]}"


def _gradients(loss: Tensor, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    slopes = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
    return zip(weights, slopes, strict=True)


def _named(case: Case, start: str) -> list[str]:
    return [key for key in case.arrays if key.startswith(start)]


def _recorded(case: Case) -> Iterator[Any]:
    """The stored permutations in their order; each asserts that it is asked for by its own length."""
    start = 0
    for length in case.arrays["perms_len"].tolist():
        permutation = torch.from_numpy(case.arrays["perms_flat"][start : start + length])
        start += length

        def give(count: int, permutation: Tensor = permutation) -> Tensor:
            assert count == len(permutation), "another permutation is due here"
            return permutation

        yield give


ADAPTERS: Mapping[str, Adapter] = {
    f"segmentation/{f.__name__}": f
    for f in (skds_holistic, skds_holistic_conditional, cirkd_minibatch, cirkd_memory)
}
