"""Every default that a document repeats is the one that the code uses."""

import re
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from kdcache.cache.sources.arrays import HELD_OUT
from kdcache.cache.sources.table import SOURCES
from kdcache.cache.spec import Task
from kdcache.cache.tasks.detection import DRAWN_SCORE
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of
from kdcache.cache.views.draw import EVAL_SHARE
from kdcache.cache.views.recipe import parse_recipe
from kdcache.cli.bench.sweep import MOST_TOGETHER
from kdcache.losses.dense.critic import LEVELS, smallest_side
from kdcache.trainer.bench.page.analysis import PATCH
from kdcache.trainer.bench.page.report import NUM_EXAMPLES
from kdcache.trainer.bench.statistics import t_quantile
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.export.compare import BOUND, NUM_IMAGES
from kdcache.trainer.folder.checkpoint import KEPT
from kdcache.trainer.judge.classification import ECE_BINS
from kdcache.trainer.stream.order import MIN_WINDOW_BLOCKS, MIN_WINDOW_SAMPLES

ROOT = Path(__file__).parents[1]
VIEWS = [task_of(task).default_views for task in (SEGMENTATION, CLASSIFICATION)]
SGD, ADAMW = (TrainConfig(run="r", optimizer=name) for name in ("sgd", "adamw"))

FLOAT = r"([\d.e-]*\d)"
# A sentence with its numbers, and what the code has for each of them.
SENTENCES: list[tuple[str, str, tuple[object, ...]]] = [
    (
        "docs/training.md",
        rf"SGD \(momentum {FLOAT}, lr {FLOAT}, weight decay {FLOAT}, `--nesterov`\) or `--optimizer adamw` "
        rf"\(lr {FLOAT}, weight decay {FLOAT}\)",
        (SGD.momentum, SGD.base_lr, SGD.decay, ADAMW.base_lr, ADAMW.decay),
    ),
    ("docs/training.md", rf"`lr \* \(1 - step / steps\) \*\* {FLOAT}`", (SGD.poly_power,)),
    ("docs/training.md", r"with `--log (\w+)`, the default", (SGD.log,)),
    ("docs/training.md", r"silent for `--rank-timeout` seconds \((\d+)\)", (SGD.rank_timeout,)),
    (
        "docs/training.md",
        r"windows of at least (\d+) blocks and (\d+) samples",
        (MIN_WINDOW_BLOCKS, MIN_WINDOW_SAMPLES),
    ),
    ("docs/training.md", rf"short side resized to input / {FLOAT} and a centre crop", (EVAL_SHARE,)),
    ("docs/training.md", r"calibration error over (\d+) bins", (ECE_BINS,)),
    ("docs/training.md", r"`kdcache build --views (crops:\d+)`", (VIEWS[0],)),
    ("docs/training.md", r"`kdcache build --views (crops:\d+)`", (VIEWS[1],)),
    ("docs/training.md", r"hold back the last (tenth) of the training", ({10: "tenth"}.get(HELD_OUT),)),
    ("docs/training.md", r"`--save-every`, the last (two) are kept", ({2: "two"}.get(KEPT),)),
    ("README.md", r"A cache repeats K views per sample \((\d+) by default\)", (VIEWS[0][6:],)),
    ("README.md", r"A cache repeats K views per sample \((\d+) by default\)", (VIEWS[1][6:],)),
    ("README.md", r"logits (?:under|of) (\d+) cells", (smallest_side(LEVELS),)),
    ("docs/sweeps.md", r"for the memory that is there, at most (\d+)", (MOST_TOGETHER,)),
    ("docs/report.md", r"With two seeds it is ([\d.]+) standard errors wide", (round(t_quantile(1), 1),)),
    ("docs/report.md", r"within patches of (\d+) x (\d+) cells", (PATCH, PATCH)),
    ("docs/report.md", r"(four) images spread evenly over val", ({4: "four"}.get(NUM_EXAMPLES),)),
    ("docs/report.md", r"one HTML file of about (\d+) MB", (round(len(get_plotlyjs()) / 1e6),)),
    ("docs/export.md", r"or boxes of at least ([\d.]+\d)", (DRAWN_SCORE,)),
    ("docs/export.md", r"asked about up to (eight) images", ({8: "eight"}.get(NUM_IMAGES),)),
    ("docs/export.md", r"above ([\d.]+\d) of the largest value nothing is written", (BOUND,)),
]


@pytest.mark.parametrize(("document", "sentence", "used"), SENTENCES, ids=lambda one: str(one)[:24])
def test_a_number_that_a_document_gives_is_the_one_in_the_code(
    document: str, sentence: str, used: tuple[object, ...]
) -> None:
    text = " ".join((ROOT / document).read_text().split())
    (match,) = re.finditer(sentence, text)
    assert [number(word) for word in match.groups()] == [number(str(value)) for value in used]


def number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


@pytest.mark.parametrize(
    ("sentence", "recipe", "source"),
    [
        ("segmentation's default, with `flip`", "scale=0.5x2", "camvid"),
        ("segmentation's default, with `flip`", "scale=0.5x2", "cityscapes"),
        ("`imagefolder`'s default, with `flip`", "rrc=0.08", "imagefolder"),
        ("CIFAR's default, with `flip`", "pad=4", "cifar10"),
        ("CIFAR's default, with `flip`", "pad=4", "cifar100"),
        ("Fashion-MNIST has `pad=2`", "pad=2", "fashion-mnist"),
    ],
)
def test_the_recipe_that_the_table_gives_a_dataset_is_the_one_it_draws(
    sentence: str, recipe: str, source: str
) -> None:
    rows = [line for line in (ROOT / "docs" / "training.md").read_text().splitlines() if sentence in line]
    assert len(rows) == 1 and f"`{recipe}`" in rows[0]
    task: Task = SEGMENTATION if "scale" in recipe else CLASSIFICATION
    assert parse_recipe(SOURCES[source].augment, task_of(task).recipes).text == f"{recipe},flip"


def test_a_random_region_without_a_number_is_at_least_the_share_that_the_table_gives() -> None:
    assert "| `rrc` or `rrc=0.08` |" in (ROOT / "docs" / "training.md").read_text()
    rules = task_of(CLASSIFICATION).recipes
    assert parse_recipe("rrc", rules) == parse_recipe("rrc=0.08", rules)
