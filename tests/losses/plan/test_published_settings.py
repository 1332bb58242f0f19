"""What a loss does where nothing is written: settings as shared/specs gives them, once more as numbers here.

Nothing here is read from the library, so a default that slips is noticed. In the comments, 'seg 5.4' is
section 5.4 of segmentation-losses.md, 'cls 2.7' section 2.7 of classification-detection-losses.md, 'det 7'
section 7 of detection.md.
"""

import pytest

from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.losses.plan.presets import PRESETS
from kdcache.losses.plan.table import LOSSES

SEG, CLS, DET = SEGMENTATION, CLASSIFICATION, DETECTION
HINGE = dict(adversarial="hinge", first="student", optimizer="adam", lr=4e-4, lambda_d=0.1, rate="constant",
             statistics="all")  # fmt: skip
WGAN = dict(adversarial="wgan-gp", first="teacher", optimizer="sgd", lr=4e-4, lambda_d=0.1, levels=4,
            condition="none", preprocess="batchnorm", rate="poly", statistics="rank")  # fmt: skip
PAIR = dict(weight=0.5, tap="neck", form="skds", share=0.5)
BRANCHES = dict(weight=1, branches=4, T=3, alpha=1, length=80, loss="KL")
# (loss, task) -> the options and weight of its term, and the other terms with their weights.
PUBLISHED: dict[tuple[str, Task], tuple[dict[str, object], str]] = {
    ("afdcd", SEG): (  # seg 1, argparse defaults; class defaults tau, M, pool, patch, share
        dict(weight=1, tap="stage4", lambda_fd=4e-5, lambda_ctr=1e-3, mode="omni", tau=0.07, groups=16,
             pool="auto", patch=(4, 4), fit="cut", negatives="groups", mask="random", mask_ratio=0.75,
             generator="plain"),
        "task 1, kd 1",
    ),
    ("cirkd", SEG): (  # seg 5.4
        dict(weight=1, tap="neck", lambda_batch=1, lambda_pixel=0.1, lambda_region=0.1, tau=0.1, T=1, pool=1,
             queue="faithful", pixel_memory=20000, region_memory=2000, contrast_pixels=4096,
             contrast_regions=1024, enqueue=16),
        "task 1, kd 1",
    ),
    ("skds-pixel", SEG): (dict(weight=10), "task 1"),  # seg 2.1
    ("skds-pair", SEG): (PAIR, "task 1"),  # seg 2.2
    ("skds-holistic", SEG): (dict(weight=0.1, **WGAN), "task 1"),  # seg 2.3
    ("skds", SEG): (PAIR, "task 1, skds-pixel 10, skds-holistic 0.1"),
    ("cwd", SEG): (  # seg 3
        dict(weight=3, taps="logits", tau=4, norm="channel", divisor="student", shares="same"), "task 1",
    ),
    ("cwd", DET): (  # det 7: mmrazor on gfl
        dict(weight=10, taps="cls", tau=1, norm="channel", divisor="student", shares="same"), "task 1",
    ),
    ("gdd", SEG): (dict(weight=145, taps="stage4", tau=4, shares="same"), "task 1"),  # seg 4
    ("gdd", DET): (dict(weight=65, taps="fpn", tau=4, shares="same"), "task 1"),  # det 7
    ("mgd", SEG): (  # seg 5.2
        dict(weight=2e-5, taps="stage4", mask_ratio=0.75, mask="spatial", shares="same"), "task 1, cwd 3",
    ),
    ("mgd", CLS): (
        dict(weight=7e-5, taps="stage4", mask_ratio=0.15, mask="channel", shares="same"), "task 1",
    ),
    ("mgd", DET): (dict(weight=2e-5, taps="fpn", mask_ratio=0.65, mask="spatial", shares="same"), "task 1"),
    ("ifvd", SEG): (dict(weight=20, tap="neck"), "task 1, kd 1, skds-holistic 0.001"),  # seg 5.3, CIRKD's
    ("dsd", SEG): (dict(weight=1, taps="aux/neck/logits", tau=4, lambda_psd=1000, lambda_csd=10), "task 1"),
    ("kd", SEG): (dict(weight=1, T=1, form="cirkd", upsample=1, hard=1), "task 1"),  # seg 5.1
    ("kd", CLS): (dict(weight=0.9, T=4, form="repdistiller", upsample=1, hard=1), "task 0.1"),  # cls 2.1
    ("fitnet", SEG): (  # seg 5.5
        dict(weight=10, taps="neck", hints="same", form="cirkd", stage="hint", relu=True, T=3,
             shares="same"),
        "task 1, kd 1",
    ),
    ("fitnet", CLS): (  # cls 2.2, the one-stage variant
        dict(weight=100, taps="stage2", hints="same", form="repdistiller", stage="hint", relu=True, T=3,
             shares="same"),
        "task 1",
    ),
    ("fitnet", DET): (  # nobody published a weight
        dict(weight=10, taps="fpn", hints="same", form="cirkd", stage="hint", relu=True, T=3, shares="same"),
        "task 1",
    ),
    ("at", SEG): (dict(weight=10000, taps="neck", cache="map", shares="same"), "task 1, kd 1"),  # seg 5.6
    ("at", CLS): (dict(weight=1000, taps="stage1/stage2/stage3", cache="map", shares="same"), "task 1"),
    ("at", DET): (dict(weight=10000, taps="fpn", cache="map", shares="same"), "task 1"),
    ("dist", SEG): (dict(weight=1, tau=1, beta=1, gamma=1, aux=0.4), "task 1"),  # seg 5.8
    ("dist", CLS): (dict(weight=2, tau=4, beta=1, gamma=1, aux=0), "task 1"),  # cls 3.4, CIFAR
    # seg 5.9
    ("pkd", SEG): (dict(weight=6, taps="neck", resize="student", levels="all", shares="same"), "task 1"),
    ("pkd", CLS): (dict(weight=6, taps="stage3", resize="student", levels="all", shares="same"), "task 1"),
    ("pkd", DET): (dict(weight=10, taps="fpn", resize="student", levels=4, shares="same"), "task 1"),  # det 7
    ("bckd", DET): (dict(weight=1, cls=1, loc=4, beta=1, skip_levels="on"), "task 1"),  # cls part 1
    ("ld", DET): (dict(weight=1, main=0.25, vlr=0.25, T=10, kd=10, kd_T=2), "task 1"),  # cls 3.6
    ("fgd", DET): (  # cls 3.7: numbers by detector, below
        dict(weight=1, taps="fpn", temp="auto", alpha="auto", beta="auto", gamma="auto", relation="auto"),
        "task 1",
    ),
    ("gid", DET): (  # cls 3.9
        dict(weight=1, feature=5e-4, relation=40, cls=0.1, box=1, instances=10, nms=0.3), "task 1",
    ),
    ("rkd-d", SEG): (dict(weight=1, tap="neck"), "task 1"),  # cls 2.3: 1 and 2 in the metric recipe
    ("rkd-d", CLS): (dict(weight=1, tap="embedding"), "task 1"),
    ("rkd-a", SEG): (dict(weight=2, tap="neck"), "task 1"),
    ("rkd-a", CLS): (dict(weight=2, tap="embedding"), "task 1"),
    ("rkd", SEG): (dict(weight=1, tap="neck", distance=25, angle=50, unit="none"), "task 1"),
    ("rkd", CLS): (dict(weight=1, tap="embedding", distance=25, angle=50, unit="none"), "task 1"),
    ("dml", CLS): (  # cls 2.4
        dict(weight=1, students=2, form="official", smoothing="published", T=3, pairwise=False), "",
    ),
    ("tfkd-self", CLS): (dict(weight=1, alpha=0.95, T=6, multiplier=50), "task 0.05"),  # cls 2.5, ResNet18
    ("tfkd-reg", CLS): (dict(weight=1, alpha=0.1, T=20, multiplier=100, correct=0.99), "task 0.9"),
    ("label-smoothing", CLS): (dict(weight=1, alpha=0.1), ""),
    ("byot", CLS): (  # cls 2.6: both codes
        dict(weight=1, form="luanyunteng", exits=3, alpha=0.1, beta=1e-6, c=0.3, g=0.03, T=3), "",
    ),
    ("okddip", CLS): (  # cls 2.7
        dict(weight=1, peers=4, form="branches", T=3, alpha=1, length=80, loss="KL", factor=8, detach=False),
        "",
    ),
    ("one", CLS): (BRANCHES, ""),
    ("cl-ilr", CLS): (dict(**BRANCHES, bpscale=True), ""),
    ("sskd", CLS): (  # cls 2.8
        dict(weight=1, stage="student", kd=0.9, tf=2.7, ss=10, T=4, ss_T=0.5, ratio_tf=1, ratio_ss=0.75),
        "task 0.1",
    ),
    ("dafl", CLS): (dict(weight=1, oh=1, ie=5, a=0.1, latent=100, lr=0.2, grey=False), ""),  # cls 2.9, MNIST
    ("kd-topk", CLS): (dict(weight=0.9, k=5, T=4), "task 0.1"),  # cls 2.12, with the weights of 2.1
    ("kd-pt", CLS): (dict(weight=0.9, T=4), "task 0.1"),
    ("kd-sim", CLS): (dict(weight=0.9, power=0.3, b=0.3, T=4), "task 0.1"),
    ("dkd", CLS): (dict(weight=1, T=4, alpha=1, beta=8, warmup=20), "task 1"),  # cls 3.1
    ("reviewkd", SEG): (
        dict(weight=1, taps="stage1/stage2/stage3/stage4", hints="same", warmup=20), "task 1",
    ),
    ("reviewkd", CLS): (  # cls 3.2: pre-activation maps and the pooled vector
        dict(weight=1, taps="stage1/stage2/stage3/embedding", hints="pre1/pre2/pre3/embedding", warmup=20),
        "task 1",
    ),
    ("nkd", CLS): (dict(weight=1, T=1, gamma=1.5), "task 1"),  # cls 3.3, ImageNet
    ("crd", CLS): (  # cls 3.5
        dict(weight=0.8, tap="embedding", dim=128, negatives=16384, T=0.07, momentum=0.5), "task 1",
    ),
}  # fmt: skip
MEMORY, VOC = dict(lambda_pixel=0.1, lambda_region=0.1), dict(lambda_pixel=0.01, lambda_region=0.01)
# (dataset, loss) -> what differs from the table above; 'kd' is the companion's weight. The table of seg 1 and
# seg 5.4; cls 2.9, 3.1, 3.3, 3.4.
OF_DATASETS: dict[tuple[str, str], dict[str, object]] = {
    ("camvid", "afdcd"): dict(lambda_fd=8e-6, lambda_ctr=1e-2, pool=0, fit="cut", kd=1),
    ("cityscapes", "afdcd"): dict(lambda_fd=2e-6, lambda_ctr=5e-3, pool=4, fit="exact", kd=1),
    ("voc", "afdcd"): dict(lambda_fd=1e-6, lambda_ctr=5e-3, pool=4, fit="exact", kd=1),
    ("ade20k", "afdcd"): dict(lambda_fd=1e-6, lambda_ctr=4e-2, pool=4, fit="exact", kd=0.5),
    ("cocostuff", "afdcd"): dict(lambda_fd=5e-6, lambda_ctr=5e-3, pool=4, fit="exact", kd=0.5),
    ("camvid", "cirkd"): MEMORY,
    ("cityscapes", "cirkd"): MEMORY,
    ("voc", "cirkd"): VOC,
    ("ade20k", "cirkd"): MEMORY,
    ("cocostuff", "cirkd"): MEMORY,
    ("cifar10", "nkd"): dict(T=3, gamma=3.5),
    ("cifar100", "nkd"): dict(T=3, gamma=3.5),
    ("imagenet", "nkd"): dict(T=1, gamma=1.5),
    ("cifar10", "dafl"): dict(oh=0.05, ie=5, a=0.01, latent=1000, lr=0.02),
    ("cifar100", "dafl"): dict(oh=0.5, ie=20, a=0.1, latent=1000, lr=0.02),
    ("imagenet", "dkd"): dict(T=1, beta=0.5, warmup=1),
    ("imagenet", "dist"): dict(tau=1),
}


def settings(plan: LossPlan, loss: str) -> tuple[dict[str, object], str]:
    """In the form of the table: the term `loss`, and 'name weight' of all others."""
    (term,) = [term for term in plan.terms if term.name == loss]
    beside = ", ".join(f"{other.name} {other.weight:g}" for other in plan.terms if other.name != loss)
    return {**term.shown_options, "weight": term.weight}, beside


@pytest.mark.parametrize(("loss", "task"), PUBLISHED)
def test_a_loss_without_options_has_the_published_settings(loss: str, task: Task) -> None:
    assert settings(parse_losses(loss, preset=None, task=task), loss) == PUBLISHED[loss, task]


def test_every_loss_stands_in_the_table_for_each_of_its_tasks() -> None:
    assert {loss for loss, _ in PUBLISHED} == set(LOSSES)
    for loss in LOSSES:
        (term, *_) = [t for t in parse_losses(loss, preset=None, task=_a_task(loss)).terms if t.name == loss]
        assert {task for name, task in PUBLISHED if name == loss} == set(term.loss_class.tasks), loss


def test_the_task_loss_alone_counts_the_auxiliary_head_with_0_4_and_smooths_nothing() -> None:
    maps = parse_losses("none", preset=None, task=SEG)
    assert [(t.name, dict(t.options), t.weight) for t in maps.terms] == [("task", {"aux_weight": 0.4}, 1.0)]
    plain = parse_losses("none", preset=None, task=CLS)
    assert [(t.name, dict(t.options), t.weight) for t in plain.terms] == [("task", {"smoothing": 0.0}, 1.0)]


@pytest.mark.parametrize(
    ("loss", "brought", "published"),
    [
        ("ifvd", "skds-holistic", HINGE),
        ("skds", "skds-holistic", WGAN),
        ("mgd", "cwd", dict(taps="logits", tau=4)),
        *((loss, "kd", dict(T=1, form="cirkd")) for loss in ("afdcd", "cirkd", "ifvd", "at", "fitnet")),
    ],
)
def test_what_a_method_brings_along_is_set_as_its_code_sets_it(
    loss: str, brought: str, published: dict[str, object]
) -> None:
    (term,) = [term for term in parse_losses(loss, preset=None, task=SEG).terms if term.name == brought]
    assert {name: term.options[name] for name in published} == published


@pytest.mark.parametrize(("dataset", "loss"), OF_DATASETS)
def test_a_loss_on_a_published_dataset_has_the_settings_published_for_it(dataset: str, loss: str) -> None:
    changed = dict(OF_DATASETS[dataset, loss])
    options, beside = PUBLISHED[loss, _a_task(loss, CLS)]
    if "kd" in changed:
        beside = f"task 1, kd {changed.pop('kd')}"
    for expression, preset in ((loss, dataset), (f"{loss}@{dataset}", None)):
        plan = parse_losses(expression, preset=preset, task=_a_task(loss, CLS))
        assert settings(plan, loss) == ({**options, **changed}, beside)


def test_no_dataset_has_settings_that_nobody_published() -> None:
    assert {(dataset, loss) for dataset, losses in PRESETS.items() for loss in losses} == set(OF_DATASETS)


def _a_task(loss: str, rather: Task = SEG) -> Task:
    tasks = [task for name, task in PUBLISHED if name == loss]
    return rather if rather in tasks else tasks[0]
