"""Errors that few people meet, each whole: what is wrong, where, what to do. docs/errors.md prints them."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kdcache.cache.build import settle
from kdcache.cache.errors import BadCache, BadOption, BadWeights
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.families import timm as timm_family
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.run_card import _digest_of
from kdcache.cache.sources.folder import class_names_in
from kdcache.cache.sources.yolo import YAML_FILE, _class_names
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm
from kdcache.losses.options import declared
from kdcache.losses.plan import catalogue
from kdcache.trainer import ranks
from kdcache.trainer.folder.options import FolderOptions
from kdcache.trainer.steps.generator import GeneratorStepper
from kdcache.trainer.stream.batch import BatchLayout

LATIN = b"stra\xdfe\n"


def three_parts(error: Any) -> tuple[str, str, str]:
    return error.value.what, error.value.where, error.value.fix


def test_a_factory_that_fails_is_named_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = 'def make(num_classes):\n    raise RuntimeError(f"no checkpoint for {num_classes} classes")\n'
    (tmp_path / "failing_factory.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadOption) as error:
        build_network("failing_factory:make", task=SEGMENTATION, num_classes=3)
    assert three_parts(error) == (
        "the factory failed: RuntimeError: no checkpoint for 3 classes",
        "failing_factory:make",
        "it is called as factory(num_classes) and returns (torch.nn.Module, {tap: module path})",
    )


def test_a_network_without_maps_at_any_size_is_no_classifier_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_family, "_usable_maps", lambda shapes, size_px: None)
    with pytest.raises(BadOption) as error:
        build_network("timm:resnet18", task="classification", num_classes=3)
    assert error.value.what == "resnet18 cannot be read as a classifier"
    assert error.value.fix.startswith("take a network with forward_features and forward_head")


@pytest.mark.parametrize("stride", [True, -1, "8", 2**70])
def test_a_network_of_other_types_is_refused(stride: object) -> None:
    good = {
        "name": "a:b",
        "num_classes": 3,
        "output_stride": 8,
        "task": SEGMENTATION,
        "aux": False,
        "taps": {},
    }
    assert NetworkConfig.from_dict(good).num_classes == 3
    with pytest.raises(BadOption) as error:
        NetworkConfig.from_dict(good | {"output_stride": stride}, where="card")
    assert error.value.what.startswith("not a network configuration: {'name': 'a:b'")
    assert error.value.where == "card" and error.value.fix == "train the run again"


def test_weights_that_are_cut_are_named(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(3)}, whole)
    assert len(_digest_of(whole)) == 64
    cut.write_bytes(whole.read_bytes()[:6])
    with pytest.raises(BadWeights) as error:
        _digest_of(cut)
    assert three_parts(error) == (
        "not a whole safetensors file: it has 6 bytes, too few for its header",
        str(cut),
        "copy or download it again",
    )


def test_class_names_in_another_encoding_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(LATIN)
    with pytest.raises(BadOption, match="'classes.txt' cannot be read: 'utf-8' codec") as error:
        class_names_in(tmp_path)
    assert error.value.fix == "write one class name per line, in UTF-8"
    (tmp_path / YAML_FILE).write_bytes(b"names: [" + LATIN + b"]")
    with pytest.raises(BadOption, match="'data.yaml' cannot be read: 'utf-8' codec") as error:
        _class_names(tmp_path)
    assert error.value.fix == "write it in UTF-8, or restore it"


def test_none_is_no_method_and_a_silent_class_is_asked_to_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadOption) as error:
        catalogue.entry("none")
    assert three_parts(error) == (
        "'none' trains on the task loss alone and has no options",
        "kdtrain methods none",
        "kdtrain methods task",
    )
    silent = type("Silent", (LossTerm,), {"tasks": (SEGMENTATION,), "method": None})
    monkeypatch.setattr(catalogue, "load_loss", lambda *_, **__: silent)
    with pytest.raises(BadOption) as error:
        catalogue.entry("mine:Silent")
    assert error.value.what == "'mine:Silent' says nothing of itself"
    assert error.value.fix == "give its class the attribute `method`"


def test_an_option_without_a_default_is_its_authors_error() -> None:
    with pytest.raises(BadOption) as error:
        declared("tau", float, inspect.Parameter.empty, where="mine:Loss")
    assert three_parts(error) == (
        "option 'tau' has no default",
        "mine:Loss",
        "give the keyword a default value",
    )


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranks, "get_available_trackers", lambda: ["tensorboard", "wandb"])
    with pytest.raises(BadOption) as error:
        ranks._trackers(FolderOptions(run="r", log="wandb,comet_ml"), tmp_path, 0)
    assert three_parts(error) == (
        "--log comet_ml, and comet-ml is not installed",
        "--log wandb,comet_ml",
        "pip install comet-ml",
    )


def test_a_generator_cannot_share_a_loss_scale() -> None:
    accelerator: Any = SimpleNamespace(scaler=object())
    config: Any = SimpleNamespace(loss="dafl")
    with pytest.raises(BadOption) as error:
        GeneratorStepper(config, SimpleNamespace(label="dafl", term=None), accelerator)  # type: ignore[arg-type]
    assert error.value.where == "--amp fp16 --loss dafl" and error.value.fix == "use --amp bf16 or --amp no"


def test_a_layout_without_ranks_is_refused() -> None:
    with pytest.raises(BadOption, match="rank 2 of 2, accumulation 1, batch 4"):
        BatchLayout(seed=0, global_batch=4, world=2, rank=2)


def test_a_record_of_another_block_is_never_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ShardKey(3, 1)
    record = SimpleNamespace(samples="x3:a", rows=4)
    monkeypatch.setattr(settle, "read_targets_record", lambda root, wanted: (record, "x3:seal"))
    plan: Any = SimpleNamespace(root=Path("cache"))
    block: Any = SimpleNamespace(seal="x3:a", rows=4)
    assert settle._record(plan, key, block) == (*key, "x3:seal")
    block.seal = "x3:b"
    with pytest.raises(BadCache) as error:
        settle._record(plan, key, block)
    assert (
        error.value.what == f"the targets of {key.title} were made from other samples than that block holds"
    )
    assert error.value.fix == "run 'kdcache build --repair': it makes them again"
