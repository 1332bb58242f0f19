"""Continuing and judging a run from what a user wrote."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdcache.cache.errors import BadOption, NotFinite
from kdcache.trainer import assemble, run
from kdcache.trainer.config import TrainConfig, write_config
from kdcache.trainer.folder.start import continued
from kdcache.trainer.judge.metrics import NoFigures
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.run import evaluate_run

CLASSES = ("a", "b", "c")


def begun(home: Path, **options: Any) -> Path:
    run_dir = home / "runs" / "r"
    run_dir.mkdir(parents=True)
    write_config(run_dir, TrainConfig(run="r", **options), {})
    return run_dir


def test_a_run_goes_on_from_any_folder_and_under_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, data=f"folder:{tmp_path.resolve() / 'd'}", steps=7)
    monkeypatch.chdir(tmp_path)
    assert continued({"run": "r", "data": "folder:d", "threads": 2}, tmp_path).threads == 2
    assert continued({"run": "r"}, tmp_path).steps == 7
    with pytest.raises(BadOption, match="--data .* differs"):
        continued({"run": "r", "data": "folder:other"}, tmp_path)


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is judged; nothing is."""
    begun(tmp_path, data="folder:/d")
    config = SimpleNamespace(name="net")
    card: Any = SimpleNamespace(data="folder:/d", class_names=CLASSES, crop=(5, 6), task="t", config=config)
    heard: dict[str, Any] = {}

    def listen(network: object, source: object, **options: object) -> str:
        heard.update(network=network, source=source, **options)
        return "metrics"

    monkeypatch.setattr(run, "read_run_card", lambda folder: card)
    monkeypatch.setattr(run, "load_run_network", lambda folder: f"network of {folder.name}")
    monkeypatch.setattr(run, "load_exit", lambda folder, number: f"exit {number}")
    monkeypatch.setattr(run, "judge_alone", listen)
    return heard


def source_of(*names: str) -> Any:
    return lambda spec, split: SimpleNamespace(
        class_names=names, spec=spec, split=split, classes_hint="", refuse_unusable=lambda: None
    )


def test_a_run_is_judged_on_the_split_and_at_the_size_that_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: dict[str, Any]
) -> None:
    monkeypatch.setattr(run, "open_source", source_of(*CLASSES))
    evaluate_run("r", home=tmp_path, data=None, split="test")
    assert (judged["source"].spec, judged["source"].split) == ("folder:/d", "test")
    assert (judged["network"], judged["input_size"], judged["teacher"]) == ("network of r", (5, 6), None)
    evaluate_run("r", home=tmp_path, data=None, split="test", exit_number=2)
    assert judged["network"] == "exit 2"


def test_a_student_without_figures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: dict[str, Any]
) -> None:
    counted = SegmentationMetrics(0.9, {"a": 0.9}, 0.5, 12, 0.1)
    monkeypatch.setattr(run, "open_source", source_of(*CLASSES))
    monkeypatch.setattr(run, "judge_alone", lambda *_, **__: NoFigures(counted, 3))
    with pytest.raises(NotFinite) as caught:
        evaluate_run("r", home=tmp_path, data=None, split="test")
    assert str(caught.value) == (
        "the student answers infinity or NaN for 3 of 12 images: it has no figures\n"
        f"  where: {tmp_path / 'runs' / 'r'}\n"
        "  fix:   train it again under another --run: such a student is no network that can be used"
    )


@pytest.mark.parametrize(
    ("names", "differ"),
    [
        (("a", "b"), "2 classes, the run 3: the data lack 'c'"),
        (("a", "c", "b"), "class 1 is 'b' in the run and 'c' in the data"),
        (("a", "b", "d"), "the data have also 'd' and lack 'c'"),
    ],
)
def test_data_of_other_classes_are_refused_also_where_they_are_as_many(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    judged: dict[str, Any],
    names: tuple[str, ...],
    differ: str,
) -> None:
    monkeypatch.setattr(run, "open_source", source_of(*names))
    with pytest.raises(BadOption, match=differ):
        evaluate_run("r", home=tmp_path, data=None, split="val")
    assert not judged


def test_a_student_is_validated_on_the_validation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """And on none where there is none: never on what it learns from, never on the test split."""
    opened: list[str] = []

    def open_source(spec: str, split: str) -> Any:
        opened.append(split)
        return SimpleNamespace(task="t", class_names=CLASSES, keys=(), refuse_unusable=lambda: None)

    run_source: Any = SimpleNamespace(spec="folder:/d", class_names=CLASSES, crop=(5, 6))
    ranks: Any = SimpleNamespace(device="cpu", amp=None, rank=0, world=1, reduce=None)
    monkeypatch.setattr(assemble, "open_source", open_source)
    monkeypatch.setattr(assemble, "splits", lambda spec: ("train", "val", "test"))
    evaluate, note = assemble._validation(run_source, ranks, TrainConfig(run="r"))
    assert opened == ["val"] and evaluate is not None and note == ""
    monkeypatch.setattr(assemble, "splits", lambda spec: ("train", "test"))
    assert assemble._validation(run_source, ranks, TrainConfig(run="r"))[0] is None and opened == ["val"]


def test_a_student_is_not_validated_on_classes_that_have_other_numbers_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A renamed class folder gives the classes behind it other numbers: the best student would be chosen by
    labels of other classes."""
    renamed = SimpleNamespace(
        task="t", class_names=("a", "aa", "c", "d"), name="n", root="/d", split="val", keys=()
    )
    monkeypatch.setattr(assemble, "open_source", lambda spec, split: renamed)
    monkeypatch.setattr(assemble, "splits", lambda spec: ("train", "val"))
    run_source: Any = SimpleNamespace(spec="n:/d", class_names=CLASSES, crop=(5, 6))
    ranks: Any = SimpleNamespace(device="cpu", amp=None, rank=0, world=1, reduce=None)
    with pytest.raises(BadOption) as refused:
        assemble._validation(run_source, ranks, TrainConfig(run="r"))
    assert "the data have also 'aa', 'd' and lack 'b'" in refused.value.what
    assert refused.value.where == "--data n:/d"
