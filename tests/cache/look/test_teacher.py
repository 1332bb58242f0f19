"""The teacher behind a cache: rebuilt, told apart from another, and no code run that only a cache names."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resealed import reseal

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.look.teacher import manifest_teacher, module_paths, network_for_listing, own_teacher
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.record.manifest import FILE_NAME, read_manifest
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.cache.trust import consent


@pytest.mark.parametrize("origin", ["caches/a/runs/r101", "r101,./r102", "a\\b", "./tiny_teacher:make"])
def test_paths_that_only_a_cache_names_are_not_followed(tiny_cache: Path, origin: str) -> None:
    manifest = replace(read_manifest(tiny_cache), teacher_origin=origin)
    with pytest.raises(BadOption, match="names its teacher by a path, which is not followed") as caught:
        own_teacher(manifest)
    assert caught.value.fix == f"if you trust it: --teacher {shlex.quote(origin)}"
    with pytest.raises(BadOption) as caught, consent([origin], ["kdcache", "build"]):
        own_teacher(manifest, "mine")
    assert caught.value.fix.endswith(f": kdcache build --cache mine --teacher {shlex.quote(origin)}")


@pytest.mark.parametrize("origin", ["her_nets:make", "r101, her_nets:make"])
def test_code_that_only_a_cache_names_is_taken_once_it_is_trusted(tiny_cache: Path, origin: str) -> None:
    manifest = replace(read_manifest(tiny_cache), teacher_origin=origin)
    with pytest.raises(BadOption, match="'her_nets:make': code of somebody's own") as caught:
        own_teacher(manifest)
    assert "--trust her_nets:make" in caught.value.fix
    with consent(["her_nets"]):
        assert own_teacher(manifest) == origin
    with pytest.raises(BadOption):
        own_teacher(manifest)


@pytest.mark.parametrize("origin", ["r101", "timm:resnet18", "r101,deeplabv3:resnet50"])
def test_runs_and_networks_of_libraries_are_taken_from_a_cache(tiny_cache: Path, origin: str) -> None:
    assert own_teacher(replace(read_manifest(tiny_cache), teacher_origin=origin)) == origin
    assert own_teacher(None) == ""


def test_the_teacher_that_made_a_cache_is_rebuilt(tiny_cache: Path) -> None:
    teacher = manifest_teacher(tiny_cache, tiny_cache / "runs", None, "tiny_teacher:make")
    assert weights_digest(teacher) == read_manifest(tiny_cache).identity["weights"]
    assert teacher.taps["logits"] == "head" and teacher.num_classes == 3
    images = torch.zeros((1, 40, 48, 3), dtype=torch.uint8)
    assert teacher.eval()(images, ["stage4"])["stage4"].shape == (1, 6, 5, 6)


def test_other_weights_under_the_same_name_are_refused(tiny_cache: Path) -> None:
    weights = str(read_manifest(tiny_cache).identity["weights"])
    reseal(tiny_cache / FILE_NAME, lambda plain: plain["identity"].update(weights="0" * len(weights)))
    with pytest.raises(BadCache, match=f"now is @{weights[:11]}: same name, other weights") as caught:
        manifest_teacher(tiny_cache, tiny_cache / "runs", None, "tiny_teacher:make")
    assert "--weights" in caught.value.fix and "@00000000000" in caught.value.what


def test_taps_can_be_listed_of_a_network_that_nobody_trained(tmp_path: Path) -> None:
    network, size_px = network_for_listing("resnet8", tmp_path, 10, None)
    assert network.task == CLASSIFICATION and size_px == (32, 32) and network.num_classes == 10
    network, size_px = network_for_listing("deeplabv3:test_resnet", tmp_path, 7, 16)
    assert network.task == SEGMENTATION and size_px == (512, 512)
    assert (network.num_classes, network.output_stride) == (7, 16)
    assert "decoder" in module_paths(network) and "" not in module_paths(network)


def test_a_stride_that_a_task_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="--output-stride 8 for classification"):
        network_for_listing("resnet8", tmp_path, 10, 8)
