"""What a loss name means: companions, presets, weights, needs, and the checks against the maps' sizes."""

import logging
from pathlib import Path

import pytest
import torch

from kdcache.cache.spec import BadOption, Need, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.plan.plan import LossPlan, needs_of, parse_losses

LOGITS = TensorSpec((12, 16, 5), 8)


def terms_of(plan: LossPlan) -> dict[str, float]:
    return {term.label: term.weight for term in plan.terms}


def option(plan: LossPlan, label: str, name: str) -> object:
    return next(term for term in plan.terms if term.label == label).options[name]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("none", {"task": 1.0}),
        ("task(weight=0.5)", {"task": 0.5}),
        ("kd", {"task": 1.0, "kd": 1.0}),
        ("kd(form=skds)", {"task": 1.0, "kd": 10.0}),
        ("cwd", {"task": 1.0, "cwd": 3.0}),
        ("cwd(tap=neck)", {"task": 1.0, "cwd": 50.0}),
        ("cwd(tap=neck,divisor=teacher)", {"task": 1.0, "cwd": 100.0}),
        ("mgd", {"task": 1.0, "mgd": 2e-5, "cwd": 3.0}),
        ("afdcd", {"task": 1.0, "afdcd": 1.0, "kd": 1.0}),
        ("afdcd(kd=0)", {"task": 1.0, "afdcd": 1.0}),
        ("afdcd(kd=0.25)", {"task": 1.0, "afdcd": 1.0, "kd": 0.25}),
        ("afdcd@ade20k", {"task": 1.0, "afdcd": 1.0, "kd": 0.5}),
        ("afdcd@ade20k(kd=2)", {"task": 1.0, "afdcd": 1.0, "kd": 2.0}),
        ("kd(T=4)+afdcd", {"task": 1.0, "kd": 1.0, "afdcd": 1.0}),
        ("cwd+cwd(tap=neck)", {"task": 1.0, "cwd": 3.0, "cwd#2": 50.0}),
        ("cwd+task(weight=2)", {"task": 2.0, "cwd": 3.0}),
        ("task(weight=0)+kd", {"kd": 1.0}),
    ],
)
def test_a_name_is_the_published_method_with_its_companions(
    expression: str, expected: dict[str, float]
) -> None:
    assert terms_of(parse_losses(expression, preset=None, task=SEGMENTATION)) == expected


def test_a_companion_named_explicitly_is_replaced_and_that_is_said() -> None:
    plan = parse_losses("mgd+cwd(weight=1)", preset=None, task=SEGMENTATION)
    assert terms_of(plan)["cwd"] == 1.0
    assert plan.notes == ("cwd(weight=1) named explicitly replaces the companion cwd(weight=3) of mgd",)
    plan = parse_losses("afdcd+kd(T=4)", preset=None, task=SEGMENTATION)
    assert option(plan, "kd", "T") == 4.0
    assert "kd(T=4,weight=1) named explicitly replaces the companion kd(T=1,weight=1) of afdcd" in plan.notes


def test_a_companion_left_out_is_said() -> None:
    assert (
        "the companion cwd of mgd is left out"
        in parse_losses("mgd(cwd=0)", preset=None, task=SEGMENTATION).notes
    )


def test_presets_follow_the_dataset_and_the_at_sign_overrides_them() -> None:
    camvid = parse_losses("afdcd", preset="camvid", task=SEGMENTATION)
    assert (option(camvid, "afdcd", "lambda_fd"), option(camvid, "afdcd", "lambda_ctr")) == (8e-6, 1e-2)
    assert option(camvid, "afdcd", "pool") == 0
    assert camvid.notes == (
        "afdcd: settings published for camvid: lambda_fd=8e-06, lambda_ctr=0.01, pool=0, fit=cut",
    )
    other = parse_losses("afdcd@cityscapes(lambda_ctr=1)", preset="camvid", task=SEGMENTATION)
    assert (option(other, "afdcd", "lambda_fd"), option(other, "afdcd", "lambda_ctr")) == (2e-6, 1.0)
    demo = parse_losses("afdcd", preset="demo", task=SEGMENTATION)
    assert (option(demo, "afdcd", "lambda_fd"), option(demo, "afdcd", "lambda_ctr")) == (4e-5, 1e-3)
    assert "nothing is published for 'demo'" in demo.notes[0]


@pytest.mark.parametrize(
    ("dataset", "fd", "ctr", "kd"),
    [
        ("camvid", 8e-6, 1e-2, 1.0),
        ("cityscapes", 2e-6, 5e-3, 1.0),
        ("voc", 1e-6, 5e-3, 1.0),
        ("ade20k", 1e-6, 4e-2, 0.5),
        ("cocostuff", 5e-6, 5e-3, 0.5),
    ],
)
def test_afdcd_has_the_weights_of_each_published_script(
    dataset: str, fd: float, ctr: float, kd: float
) -> None:
    plan = parse_losses("afdcd", preset=dataset, task=SEGMENTATION)
    assert (option(plan, "afdcd", "lambda_fd"), option(plan, "afdcd", "lambda_ctr")) == (fd, ctr)
    assert terms_of(plan)["kd"] == kd


@pytest.mark.parametrize(
    "expression", ["none", "afdcd", "afdcd(kd=0)+cwd(tau=0.1)", "mgd+kd", "task(weight=0)+cwd"]
)
@pytest.mark.parametrize("preset", [None, "ade20k"])
def test_the_written_form_gives_the_same_terms_under_any_preset(expression: str, preset: str | None) -> None:
    plan = parse_losses(expression, preset=preset, task=SEGMENTATION)
    for other in (None, "camvid"):
        again = parse_losses(plan.written(), preset=other, task=SEGMENTATION)
        assert [(t.label, t.weight, t.options) for t in again.terms] == [
            (t.label, t.weight, t.options) for t in plan.terms
        ]


def test_needs_and_taps_are_listed_once_and_dropped_terms_need_nothing() -> None:
    assert needs_of("afdcd+cwd", task=SEGMENTATION) == (Need(tap="stage4"), Need(tap="logits"))
    assert needs_of("none", task=SEGMENTATION) == ()
    assert needs_of("afdcd(kd=0)", task=SEGMENTATION) == (Need(tap="stage4"),)
    assert needs_of("cwd(tap=neck,weight=0)+kd", task=SEGMENTATION) == (Need(tap="logits"),)
    plan = parse_losses("afdcd", preset=None, task=SEGMENTATION)
    assert plan.student_taps == ("logits", "stage4")
    assert plan.optional_student_taps == ("aux",)
    assert parse_losses("task(aux_weight=0)", preset=None, task=SEGMENTATION).optional_student_taps == ()


def test_the_table_shows_every_resolved_term() -> None:
    rows = parse_losses("cwd", preset=None, task=SEGMENTATION).table()
    assert [tuple(row) for row in rows] == [
        ("task", "1", "aux_weight=0.4", "logits, [aux]", "-"),
        ("cwd", "3", "taps=logits, tau=4, norm=channel, divisor=student, shares=same", "logits", "logits"),
    ]


@pytest.mark.parametrize(
    ("expression", "student", "teacher", "what", "fix"),
    [
        (
            "cwd",
            {"logits": TensorSpec((6, 8, 5), 16)},
            {"logits": LOGITS},
            "student tap 'logits' is 6x8 (stride 16) but the teacher's is 12x16 (stride 8)",
            "train the student with --output-stride 8, or build the cache with --output-stride 16; "
            "or name one that fits with cwd(taps=...)",
        ),
        (
            "kd",
            {"logits": TensorSpec((12, 16, 7), 8)},
            {"logits": LOGITS},
            "student tap 'logits' has 7 channels but the teacher's has 5",
            "train teacher and student on the same classes",
        ),
        ("mgd(cwd=0)", {"logits": LOGITS}, {}, "the student has no tap 'stage4'", "there is: logits"),
        ("kd", {"logits": LOGITS}, {}, "the teacher gives no 'logits'", "there is: nothing"),
    ],
)
def test_maps_that_do_not_fit_are_refused_before_the_first_step(
    expression: str, student: dict[str, TensorSpec], teacher: dict[str, TensorSpec], what: str, fix: str
) -> None:
    with pytest.raises(BadOption) as caught:
        parse_losses(expression, preset=None, task=SEGMENTATION).build(student=student, teacher=teacher)
    assert what in caught.value.what
    assert caught.value.where == f"loss term '{expression.partition('(')[0]}'"
    assert fix in caught.value.fix


def test_what_a_map_size_decided_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    maps = {"stage4": TensorSpec((11, 15, 32), 16), "logits": TensorSpec((11, 15, 5), 16)}
    with caplog.at_level(logging.INFO):
        losses = parse_losses("afdcd", preset="demo", task=SEGMENTATION).build(student=maps, teacher=maps)
    assert losses.notes == (
        "afdcd: no pooling before the contrast, the 11x15 map has fewer than 64 cells on a side",
        "afdcd: contrasts the first 8x12 of 11x15 cells, the most that 4x4 patches tile",
    )
    assert [record.message for record in caplog.records] == list(losses.notes)


def test_a_loss_of_ones_own_takes_part_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_losses.py").write_text(
        "from kdcache.cache.spec import Need\n"
        "from kdcache.losses.contract import LossTerm, Maps\n"
        "class Gap(LossTerm):\n"
        "    needs = (Need(tap='neck'),)\n"
        "    student_taps = ('neck',)\n"
        "    companions = {'kd': {'T': 2.0}}\n"
        "    def __init__(self, maps: Maps, *, power: int = 2, strict: bool = False) -> None:\n"
        "        super().__init__()\n"
        "        self.power = power\n"
        "class Loose(LossTerm):\n"
        "    def __init__(self, maps: Maps, *, shape: list[int] = ()) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = parse_losses("own_losses:Gap(power=3,strict=true)", preset="camvid", task=SEGMENTATION)
    assert terms_of(plan) == {"task": 1.0, "Gap": 1.0, "kd": 1.0}
    assert (option(plan, "Gap", "power"), option(plan, "Gap", "strict")) == (3, True)
    maps = {"neck": LOGITS, "logits": LOGITS}
    assert plan.build(student=maps, teacher=maps).terms["Gap"].power == 3
    with pytest.raises(
        BadOption, match="option 'shape' is annotated list.int., which no expression can spell"
    ):
        parse_losses("own_losses:Loose", preset=None, task=SEGMENTATION)
    with pytest.raises(
        BadOption, match="own_losses:Gap brings kd.T=2,weight=1. and afdcd brings kd.T=1,weight=1."
    ):
        parse_losses("own_losses:Gap+afdcd", preset=None, task=SEGMENTATION)


def test_a_plan_can_be_written_into_a_run_folder() -> None:
    import json

    facts = parse_losses("afdcd", preset="camvid", task=SEGMENTATION).to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["needs"] == ["stage4", "logits"]
    assert facts["terms"][1]["options"]["patch"] == [4, 4]  # type: ignore[index]


def test_learned_parts_differ_between_seeds_only() -> None:
    maps = {"stage4": TensorSpec((8, 8, 16), 8), "logits": LOGITS._replace(shape=(8, 8, 5))}
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(
            torch.cat(
                [
                    p.flatten()
                    for p in parse_losses("mgd", preset=None, task=SEGMENTATION)
                    .build(student=maps, teacher=maps)
                    .parameters()
                ]
            )
        )
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
