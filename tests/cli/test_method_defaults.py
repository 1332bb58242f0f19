"""`kdtrain methods NAME`: the printed defaults are those of the loss, and so is what its sentences repeat."""

import inspect
import re
from collections.abc import Mapping

import pytest
from click.testing import CliRunner

from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.cli.kdtrain import kdtrain
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import LOSSES
from kdcache.losses.schedules import TermSchedule

SEG, CLS, DET = SEGMENTATION, CLASSIFICATION, DETECTION
# (loss, task, dataset, words of its 'settings') -> the option of each number in the words, in their order.
# 'weight' is the term's own, 'task' the task loss's; another loss's name is the weight it is brought with.
REPEATED: list[tuple[str, Task, str | None, str, tuple[str, ...]]] = [
    ("kd", CLS, None, "classification: T 4, weight 0.9, task 0.1", ("T", "weight", "task")),
    ("kd", SEG, None, "segmentation: T 1, weight 1", ("T", "weight")),
    ("dkd", CLS, None, "CIFAR: T 4, alpha 1, warmup 20", ("T", "alpha", "warmup")),
    ("dkd", CLS, None, "8 (all others)", ("beta",)),
    ("dkd", CLS, "imagenet", "ImageNet: T 1, warmup 1, beta 0.5", ("T", "warmup", "beta")),
    ("nkd", CLS, None, "ImageNet: T 1, gamma 1.5", ("T", "gamma")),
    ("nkd", CLS, "cifar100", "CIFAR: T 3, gamma 3.5", ("T", "gamma")),
    ("dist", CLS, None, "CIFAR: tau 4, weight 2", ("tau", "weight")),
    ("dist", CLS, "imagenet", "ImageNet: tau 1, weight 2", ("tau", "weight")),
    ("dist", SEG, None, "segmentation: tau 1, weight 1, aux 0.4", ("tau", "weight", "aux")),
    ("tfkd-self", CLS, None, ": ResNet18 0.95/6/50", ("alpha", "T", "multiplier")),
    ("tfkd-reg", CLS, None, ": ResNet18 0.1/20/100", ("alpha", "T", "multiplier")),
    ("label-smoothing", CLS, None, "alpha 0.1", ("alpha",)),
    ("kd-topk", CLS, None, "T 4, weight 0.9, task 0.1 as kd; k 5", ("T", "weight", "task", "k")),
    ("kd-pt", CLS, None, "T 4, weight 0.9, task 0.1 as kd", ("T", "weight", "task")),
    ("kd-sim", CLS, None, "power 0.3, b 0.3 are", ("power", "b")),
    ("kd-sim", CLS, None, "T 4, weight 0.9, task 0.1 as kd", ("T", "weight", "task")),
    ("fitnet", SEG, None, "segmentation: neck, cirkd, weight 10", ("weight",)),
    ("fitnet", CLS, None, "repdistiller, weight 100", ("weight",)),
    ("at", SEG, None, "segmentation: neck, weight 10000", ("weight",)),
    ("at", CLS, None, ", weight 1000", ("weight",)),
    ("rkd-d", CLS, None, "weight 1 in the metric-learning recipe", ("weight",)),
    ("rkd-a", CLS, None, "weight 2 in the metric-learning recipe", ("weight",)),
    ("rkd", CLS, None, "classification: 25 and 50", ("distance", "angle")),
    ("crd", CLS, None, "K 16384, T 0.07, momentum 0.5, weight 0.8", ("negatives", "T", "momentum", "weight")),
    ("reviewkd", CLS, None, "weight 1, warm-up 20 epochs", ("weight", "warmup")),
    ("sskd", CLS, None, "weights 0.1, 0.9, 2.7, 10", ("task", "kd", "tf", "ss")),
    ("sskd", CLS, None, "T 4, 4, 0.5", ("T", "T", "ss_T")),
    ("pkd", DET, None, "weight 10 (one-stage)", ("weight",)),
    ("bckd", DET, None, "cls 1, loc 4", ("cls", "loc")),
    (
        "ld", DET, None, "main 0.25 at T 10, vlr 0.25 at T 10, kd 10 at T 2",
        ("main", "T", "vlr", "T", "kd", "kd_T"),
    ),
    ("gid", DET, None, "feature 5e-4, relation 40, cls 0.1, box 1", ("feature", "relation", "cls", "box")),
    ("cwd", SEG, None, "logits: tau 4, weight 3", ("tau", "weight")),
    ("skds-pixel", SEG, None, "weight 10", ("weight",)),
    ("skds-pair", SEG, None, "form skds: share 0.5, weight 0.5", ("share", "weight")),
    ("skds-holistic", SEG, None, "SKDS: wgan-gp, SGD, weight 0.1", ("weight",)),
    (
        "skds", SEG, None, "pixel-wise 10, pair-wise 0.5, holistic 0.1",
        ("skds-pixel", "weight", "skds-holistic"),
    ),
    ("ifvd", SEG, None, "CIRKD: weight 20, kd 1, hinge critic 0.001", ("weight", "kd", "skds-holistic")),
    (
        "cirkd", SEG, None, "kd 1, batch 1, pixel and region 0.1",
        ("kd", "lambda_batch", "lambda_region"),
    ),
    ("cirkd", SEG, None, "pixel and region 0.1", ("lambda_pixel",)),
    ("cirkd", SEG, "voc", "(VOC 0.01)", ("lambda_pixel",)),
    ("cirkd", SEG, "voc", "(VOC 0.01)", ("lambda_region",)),
    ("dsd", SEG, None, "psd 1000, csd 10", ("lambda_psd", "lambda_csd")),
    ("mgd", SEG, None, "segmentation: share 0.75, weight 2e-5, cwd 3", ("mask_ratio", "weight", "cwd")),
    ("mgd", CLS, None, "mask channel, share 0.15, weight 7e-5", ("mask_ratio", "weight")),
    ("gdd", SEG, None, "weight 145 for PSPNet", ("weight",)),
    *(
        ("afdcd", SEG, dataset, words, ("lambda_fd", "lambda_ctr", "kd"))
        for dataset, words in (
            ("cityscapes", "Cityscapes 2e-6 / 5e-3 / 1"),
            ("voc", "VOC 1e-6 / 5e-3 / 1"),
            ("camvid", "CamVid 8e-6 / 1e-2 / 1"),
            ("ade20k", ", ADE20K 1e-6 / 4e-2 / 0.5"),
            ("cocostuff", "COCO-Stuff 5e-6 / 5e-3 / 0.5"),
            (None, "else 4e-5 / 1e-3 / 1"),
        )
    ),
    ("dml", CLS, None, "okddip: T 3", ("T",)),
    ("okddip", CLS, None, "4 networks, T 3, alpha 1, length 80", ("peers", "T", "alpha", "length")),
    ("one", CLS, None, "4 branches, T 3, alpha 1, length 80", ("branches", "T", "alpha", "length")),
    ("cl-ilr", CLS, None, "4 branches, T 3, alpha 1, length 80", ("branches", "T", "alpha", "length")),
    ("dafl", CLS, None, "MNIST: latent 100", ("latent",)),
    ("dafl", CLS, None, "lr 0.2, student", ("lr",)),
    ("dafl", CLS, None, "oh 1, ie 5, a 0.1", ("oh", "ie", "a")),
    ("dafl", CLS, "cifar10", "CIFAR: latent 1000", ("latent",)),
    ("dafl", CLS, "cifar100", "CIFAR: latent 1000", ("latent",)),
    ("dafl", CLS, "cifar10", "lr 0.02, student", ("lr",)),
    ("dafl", CLS, "cifar10", "oh 0.05, ie 5, a 0.01", ("oh", "ie", "a")),
    ("dafl", CLS, "cifar100", "oh 0.5, ie 20, a 0.1", ("oh", "ie", "a")),
]  # fmt: skip
NUMBER = re.compile(r"(?<![\w.-])\d[\d.]*(?:e-?\d+)?(?![\w.-]*\w)")


@pytest.fixture(scope="module")
def printed() -> Mapping[str, str]:
    """Name -> what `kdtrain methods NAME` shows in a terminal wide enough for every row."""
    runner = CliRunner(env={"COLUMNS": "500"})
    return {name: runner.invoke(kdtrain, ["methods", name]).output for name in LOSSES}


def rows(text: str) -> dict[str, str]:
    """Option -> printed default, of both tables."""
    lines = text.partition("\noptions")[2].splitlines()
    cells = [line.split() for line in lines if line.startswith(" ") and not line.startswith(" option ")]
    return {cell[0]: cell[1] for cell in cells if len(cell) > 2}


def spelled(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "x".join(str(side) for side in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", LOSSES)
def test_the_printed_default_of_every_option_is_that_of_the_signature(
    name: str, printed: Mapping[str, str]
) -> None:
    keywords = inspect.signature(load_loss(name, task=CLS, where="")).parameters.values()
    own = {one.name: spelled(one.default) for one in keywords if one.kind is one.KEYWORD_ONLY}
    schedules = {key: spelled(value) for key, value in TermSchedule._field_defaults.items()}
    assert rows(printed[name]) == {**own, "weight": "published", **schedules}


@pytest.mark.parametrize(("name", "task", "dataset", "words", "options"), REPEATED)
def test_a_number_that_the_settings_of_a_method_repeat_is_the_one_it_uses(
    printed: Mapping[str, str],
    name: str,
    task: Task,
    dataset: str | None,
    words: str,
    options: tuple[str, ...],
) -> None:
    assert words in " ".join(printed[name].split())
    terms = {term.name: term for term in parse_losses(name, preset=dataset, task=task).terms}
    of_the_method = {**terms[name].options, **terms[name].schedule._asdict(), "weight": terms[name].weight}
    known = {**{other: term.weight for other, term in terms.items() if other != name}, **of_the_method}
    assert [float(number) for number in NUMBER.findall(words)] == [known[option] for option in options]


def test_every_method_but_one_repeats_a_number_that_is_compared() -> None:
    """byot's sentence is about the recipe around the loss; fgd's numbers are those of the detector, chosen
    when it is built (tests/losses/detection/test_fgd.py)."""
    assert set(LOSSES) - {name for name, *_ in REPEATED} == {"byot", "fgd"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("afdcd", "camvid: lambda_fd 8e-06, lambda_ctr 0.01, pool 0, fit cut"),
        ("afdcd", "ade20k: lambda_fd 1e-06, lambda_ctr 0.04, pool 4, fit exact, kd 0.5"),
        ("cirkd", "voc: lambda_pixel 0.01, lambda_region 0.01"),
        ("nkd", "cifar100: T 3, gamma 3.5"),
        ("dkd", "imagenet: T 1, beta 0.5, warmup 1"),
        ("kd", "classification: form repdistiller, T 4"),
        ("mgd", "classification: mask channel, mask_ratio 0.15, weight 7e-05, cwd 0"),
    ],
)
def test_the_settings_of_a_dataset_and_a_task_are_printed(
    printed: Mapping[str, str], name: str, line: str
) -> None:
    assert line in printed[name]
