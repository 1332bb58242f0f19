"""Losses on lists of maps: a sum over levels with parts, draws and factors of their own; old names."""

import copy

import pytest
import torch
from bare_inputs import specs
from dense_inputs import GFL, Scene, dense_set, scene
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.spec import BadOption
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.dense.cwd import ChannelWise
from kdcache.losses.dense.gdd import GenerativeDenoise
from kdcache.losses.dense.mgd import MaskedGeneration
from kdcache.losses.features.at import AttentionTransfer
from kdcache.losses.features.fitnet import FitNet
from kdcache.losses.features.pkd import PearsonFeatures
from kdcache.losses.formulas.levels import read_shares
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

LOSSES = {
    "mgd": MaskedGeneration,
    "gdd": GenerativeDenoise,
    "cwd": ChannelWise,
    "pkd": PearsonFeatures,
    "at": AttentionTransfer,
    "fitnet": FitNet,
}
TAPS = GFL.groups["fpn"]
EXPRESSIONS = {name: f"{name}(taps=fpn)" for name in LOSSES} | {"pkd": "pkd(taps=fpn,levels=all)"}


def only(losses: LossSet, name: str) -> LossTerm:
    term = losses.terms[name]
    assert isinstance(term, LossTerm)
    return term


def bare(losses: LossSet, inputs: StepInputs, seed: int = 0) -> float:
    inputs.generator.manual_seed(seed)
    (value,) = losses(inputs).unweighted.values()
    return value.item()


def alone(name: str, given: Scene, index: int, group: LossTerm) -> LossSet:
    """The loss on one level, with the learned parts that the group has there."""
    one = dense_set(f"{name}(taps={TAPS[index]})", given.maps)
    learned = group.state_dict()
    picked = {}
    for key in only(one, name).state_dict():
        part, _, rest = key.partition(".")
        if part == "regressors":
            picked[key] = learned[f"regressors.{index}.{rest.partition('.')[2]}"]
        else:
            picked[key] = learned[f"{part}.{index}.{rest}"]
    only(one, name).load_state_dict(picked)
    return one


@pytest.mark.parametrize("name", LOSSES)
def test_a_group_is_the_sum_of_its_levels_drawn_one_after_the_other(name: str) -> None:
    given = scene(channels=(8, 8) if name == "pkd" else (6, 8))
    torch.manual_seed(0)
    group = dense_set(EXPRESSIONS[name], given.maps)
    whole = bare(group, given.inputs, seed=3)
    given.inputs.generator.manual_seed(3)
    parts = []
    for index in range(len(TAPS)):
        (value,) = alone(name, given, index, only(group, name))(given.inputs).unweighted.values()
        parts.append(value.item())
    assert min(parts) > 0
    assert whole == pytest.approx(sum(parts), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_every_level_has_the_factor_that_is_written(name: str) -> None:
    given = scene()
    values = []
    for shares in ("1/0/0", "0/1/0", "0/0/1", "2/0.5/3"):
        torch.manual_seed(0)
        losses = dense_set(EXPRESSIONS[name].replace(")", f",shares={shares})"), given.maps)
        values.append(bare(losses, given.inputs))
    assert values[3] == pytest.approx(2 * values[0] + 0.5 * values[1] + 3 * values[2], rel=1e-12)


@pytest.mark.parametrize("text", ["1/1", "1/1/x", "1/-1/1", "1/inf/1", "nan/1/1", "1//1"])
def test_factors_that_are_not_one_for_each_map_are_refused(text: str) -> None:
    with pytest.raises(BadOption) as caught:
        dense_set(f"mgd(shares={text})", scene().maps)
    assert str(caught.value).splitlines() == [
        f"'{text}' is not one number from 0 for each of the 3 maps",
        "  where: loss term 'mgd', option shares",
        "  fix:   write mgd(shares=1/1/1), or shares=same",
    ]
    assert read_shares("mgd", "1/1/1", 3) == read_shares("mgd", "same", 3) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_slope_for_the_student_and_the_learned_parts(name: str) -> None:
    given = scene(channels=(3, 3) if name == "pkd" else (2, 3), canvas=(32, 64), objects=((), ()))
    torch.manual_seed(0)
    losses = dense_set(EXPRESSIONS[name], given.maps)
    weights = list(losses.parameters())
    student = {tap: given.inputs.student[tap] for tap in TAPS}

    def total(*tensors: Tensor) -> Tensor:
        given.inputs.generator.manual_seed(5)
        value: Tensor = losses(given.inputs._replace(student=dict(zip(student, tensors, strict=False)))).total
        return value

    assert torch.autograd.gradcheck(total, (*student.values(), *weights), fast_mode=True)


def test_pkd_reads_the_first_four_levels_of_a_detector() -> None:
    wide = DenseGrid(levels=(3, 4, 5, 6, 7), strides=(8, 16, 32, 64, 128))
    given = scene(wide, canvas=(128, 128))
    all_but_last = dense_set("pkd(taps=p3/p4/p5/p6,levels=all)", given.maps)
    assert bare(dense_set("pkd", given.maps), given.inputs) == bare(all_but_last, given.inputs)
    assert bare(dense_set("pkd(levels=all)", given.maps), given.inputs) > bare(all_but_last, given.inputs)
    assert bare(dense_set("pkd(levels=1)", given.maps), given.inputs) == bare(
        dense_set("pkd(taps=p3)", given.maps), given.inputs
    )


@pytest.mark.parametrize("name", ["mgd", "gdd", "cwd"])
def test_one_map_keeps_its_learned_parts_under_their_old_names(name: str) -> None:
    """So that a run from before there were lists is resumed from its checkpoint."""
    student, teacher = {"stage4": torch.zeros(1, 3, 4, 5)}, {"stage4": torch.zeros(1, 4, 4, 5)}
    term = LOSSES[name](Maps(specs(student), specs(teacher)), taps="stage4")
    keys = {"align.weight"} if name == "cwd" else {
        f"{layer}.{kind}" for layer in ("align", "generator.0", "generator.2") for kind in ("weight", "bias")
    }  # fmt: skip
    assert set(term.state_dict()) == keys


@pytest.mark.parametrize("name", ["mgd", "gdd", "cwd"])
def test_an_expression_from_before_there_were_lists_means_the_same(name: str) -> None:
    old, new = (
        parse_losses(f"{name}({o}=stage3)", preset=None, task="segmentation") for o in ("tap", "taps")
    )
    assert [(t.label, t.options, t.weight, t.reads) for t in old.terms] == [
        (t.label, t.options, t.weight, t.reads) for t in new.terms
    ]
    assert "taps=stage3" in old.written() and "tap=" not in old.written()


def test_an_option_under_both_of_its_names_is_refused() -> None:
    with pytest.raises(BadOption) as caught:
        parse_losses("mgd(taps=stage3,tap=stage4)", preset=None, task="segmentation")
    assert str(caught.value).splitlines() == [
        "'tap' and 'taps' of 'mgd' are one option, given twice",
        "  where: loss expression 'mgd(taps=stage3,tap=stage4)'",
        "  fix:   write taps alone: mgd(taps=stage4)",
    ]
    parse_losses("mgd(taps=stage4)", preset=None, task="segmentation")


@pytest.mark.parametrize("name", ["mgd", "gdd"])
def test_learned_parts_are_clipped_as_published_on_detectors_alone(name: str) -> None:
    student, teacher = (
        {"stage4": torch.zeros(1, 3, 4, 5), "logits": torch.zeros(1, 3, 4, 5)} for _ in range(2)
    )
    plan = parse_losses(f"{name}", preset=None, task="segmentation")
    assert plan.build(student=specs(student), teacher=specs(teacher)).clip_norm is None
    plan = parse_losses(f"{name}(taps=stage4)+task(weight=0)", preset=None, task="detection")
    facts = scene().maps.facts
    assert plan.build(student=specs(student), teacher=specs(teacher), facts=facts).clip_norm == 35


def test_it_is_said_where_a_weight_of_gdd_is_nobodys() -> None:
    assert dense_set("gdd", scene().maps).notes == (
        "gdd: its weights for several levels are published for RepPoints and Faster R-CNN; here ours",
    )


def test_the_divisor_of_cwd_is_each_level_s_own() -> None:
    given = scene(channels=(4, 8))
    torch.manual_seed(0)
    student = dense_set("cwd(taps=fpn)", given.maps)
    teacher = copy.deepcopy(student)
    only(teacher, "cwd").num_channels = [8, 8, 8]  # type: ignore[assignment]
    assert bare(student, given.inputs) == pytest.approx(2 * bare(teacher, given.inputs))


def test_attention_alone_is_read_of_each_level() -> None:
    given = scene()
    plan = parse_losses("at(cache=attention)", preset=None, task="detection")
    assert [need.name for need in plan.needs] == ["fpn.attention_map"]
    teacher = {
        f"{tap}.attention_map": given.inputs.teacher[tap].square().mean(1, keepdim=True).sqrt()
        for tap in TAPS
    }
    maps = given.maps._replace(teacher=specs(teacher))
    one = dense_set("at(cache=attention)", maps)
    whole = bare(dense_set("at", given.maps), given.inputs)
    assert bare(one, given.inputs._replace(teacher=teacher)) == pytest.approx(whole, rel=1e-9)
