"""A task that is in no table is an error wherever one can be named, and never another task."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from resealed import reseal
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, default_requests, parse_tap
from kdcache.cache.errors import KdError
from kdcache.cache.look.teacher import network_for_listing
from kdcache.cache.networks.build import build_network, refuse_stride
from kdcache.cache.networks.names import known_names, parse_name, unknown_network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.plan.plan import needs_of, parse_losses
from kdcache.trainer.judge.judge import judge_of
from kdcache.trainer.stream.batch import BatchLayout, SampleSource
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.source_samples import SourceSamples
from kdcache.trainer.students.options import StudentOptions
from kdcache.trainer.students.student import build_student

TASK = "panoptic"
CONFIG: dict[str, object] = {"name": "tiny_teacher:make", "num_classes": 3, "output_stride": 8, "task": TASK}
SOURCE = cast(Any, SimpleNamespace(task=TASK, keys=("a",), size=lambda index: (8, 8)))
SAMPLES = cast(
    SampleSource,
    SimpleNamespace(task=TASK, num_samples=1, invalid=np.zeros(0), image=str, truth=str, key=str, size=str),
)
ASKED: dict[str, Callable[[], object]] = {
    "a network's name": lambda: parse_name("tiny_teacher:make", task=TASK),
    "the names that there are": lambda: known_names(TASK),
    "the error for another name": lambda: unknown_network("r19", task=TASK),
    "a network's configuration": lambda: NetworkConfig.from_dict(CONFIG),
    "a network": lambda: build_network("tiny_teacher:make", task=TASK, num_classes=3),
    "a teacher": lambda: resolve_teacher("tiny_teacher:make", Path(), task=TASK, num_classes=3),
    "a teacher to list": lambda: network_for_listing("tiny_teacher:make", Path(), 3, None, TASK),
    "a stride": lambda: refuse_stride(8, TASK),
    "taps that nobody named": lambda: default_requests(TASK, ("logits",)),
    "losses": lambda: parse_losses("none", preset=None, task=TASK),
    "needs": lambda: needs_of("kd", task=TASK),
    "a judge": lambda: judge_of(TASK, ("a",)),
    "a source's samples": lambda: SourceSamples(SOURCE),
    "fresh views": lambda: FreshStream(SAMPLES, layout=BatchLayout(seed=0, global_batch=1), crop=(8, 8)),
    "a student": lambda: build_student(StudentOptions(), num_classes=3, output_stride=None, task=TASK),
}


@pytest.mark.parametrize("place", ASKED)
def test_an_unknown_task_is_refused(place: str) -> None:
    with pytest.raises(KdError, match=f"unknown task '{TASK}'"):
        ASKED[place]()


def test_the_manifest_of_an_unknown_task_is_refused(tmp_path: Path) -> None:
    data = f"folder:{draw_folder(tmp_path / 'data', 2)}"
    options = BuildOptions(
        teacher="tiny_teacher:make", data=data, runs_dir=tmp_path, caches_dir=tmp_path / "caches",
        views="crops:1", crop=(32, 32), taps=(parse_tap("logits"),),
    )  # fmt: skip
    root = build_cache(options).root
    assert "task" not in read_manifest(root).data, "of the task of before there were two"
    for path in (root / "manifest.json", root / "generations" / "00001.json"):
        reseal(path, lambda plain: plain.get("manifest", plain)["data"].update(task=TASK))
    for ask in (lambda: open_cache(root), lambda: read_manifest(root).task):
        with pytest.raises(KdError, match=f"unknown task '{TASK}'"):
            ask()


@pytest.mark.parametrize("where", ["card", "network"])
def test_the_card_of_a_run_of_an_unknown_task_is_refused(tmp_path: Path, where: str) -> None:
    named = {"card": CLASSIFICATION, "network": CLASSIFICATION, where: TASK}
    card = {
        "format": 1, "network": CONFIG | {"task": named["network"]}, "task": named["card"], "data": "x:/y",
        "class_names": ["a", "b", "c"], "crop": [8, 8], "output_stride": 8, "weights_digest": "",
        "metrics": {},
    }  # fmt: skip
    (tmp_path / "network.json").write_text(json.dumps(card))
    with pytest.raises(KdError, match=f"unknown task '{TASK}'"):
        read_run_card(tmp_path)
