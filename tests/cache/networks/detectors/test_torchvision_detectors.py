"""torchvision's detectors as teachers: their files, their classes, their boxes, on any canvas."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.image_list import ImageList

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.families.detectors.decode import decode
from kdcache.cache.networks.families.detectors.torchvision_detectors import adapted, class_slots
from kdcache.cache.networks.files import downloads
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_card import DataClasses
from kdcache.cache.positions import boxes_at, level_rows, points

NAMES = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn")
ANCHORS = {"fcos_resnet50_fpn": 1}


def trained(body: str, seed: int = 0) -> Any:
    """torchvision's own model with 91 slots, frozen statistics as in its files, and answers that vary."""
    model = get_model(body, weights=None, weights_backbone=None, num_classes=91).eval()
    generator = torch.Generator().manual_seed(seed)
    head = model.head.classification_head
    with torch.no_grad():
        for layer in (*model.head.regression_head.modules(), head.cls_logits):
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.02)
        head.cls_logits.bias.copy_(torch.randn(head.cls_logits.bias.shape, generator=generator) - 2.5)
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    return model


def ours(model: Any, body: str, folder: Path) -> Network:
    state = {n: t.contiguous() for n, t in model.state_dict().items() if "num_batches_tracked" not in n}
    save_file(state, folder / "theirs.safetensors")
    return build_network(
        f"tv:{body}", task="detection", num_classes=80, weights=str(folder / "theirs.safetensors")
    ).eval()


@pytest.mark.parametrize("size", [(128, 256), (96, 160)], ids=["whole", "rounded"])
@pytest.mark.parametrize("body", NAMES)
def test_a_file_of_91_slots_detects_the_80_classes_that_torchvision_detects(
    body: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = trained(body)
    network = ours(model, body, tmp_path)
    if body == "retinanet_resnet50_fpn":
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0  # as torchvision sets it for this file
    images_BHWC = torch.randint(0, 256, (1, *size, 3), generator=torch.Generator().manual_seed(1)).byte()
    taps = [tap for levels in network.groups.values() for tap in levels]
    with torch.no_grad():
        maps = network(images_BHWC, taps)
        features = list(model.backbone(network.normalise(images_BHWC)).values())
        theirs = model.head(features)
        (anchors,) = model.anchor_generator(ImageList(network.normalise(images_BHWC), [size]), features)
    slots = class_slots(body)
    selected = {**theirs, "cls_logits": theirs["cls_logits"][:, :, slots]}
    per_level = [f.shape[2] * f.shape[3] * ANCHORS.get(body, 9) for f in features]
    split = {name: list(value.split(per_level, dim=1)) for name, value in selected.items()}
    model.detections_per_img, model.topk_candidates = 100, 1000
    model.nms_thresh, model.score_thresh = 0.5, 0.05
    (expected,) = model.postprocess_detections(split, [list(anchors.split(per_level))], [size])
    assert network.grid is not None
    compare_all_boxes(maps, network.grid, size, model, theirs["bbox_regression"][0], anchors)
    (seen,) = decode(maps, network.grid, 80, size)
    assert len(seen.scores_N) == 100
    assert torch.equal(seen.scores_N, expected["scores"])
    assert torch.equal(seen.classes_N, expected["labels"])
    assert torch.allclose(seen.boxes_N4, expected["boxes"], atol=2e-3)


def compare_all_boxes(
    maps: dict[str, Tensor],
    grid: DenseGrid,
    size: tuple[int, int],
    model: Any,
    deltas_P4: Tensor,
    anchors: Tensor,
) -> None:
    """At every position, also where nothing is detected."""
    coder = model.box_coder
    expected = (getattr(coder, "decode_single", None) or coder.decode)(deltas_P4, anchors)
    own = [
        boxes_at(points_P2, level_rows(maps[tap], grid.anchors_per_cell)[0], stride)
        for points_P2, tap, stride in zip(points(grid, *size), grid.groups["box"], grid.strides, strict=True)
    ]
    assert torch.allclose(torch.cat(own), expected, rtol=1e-5, atol=5e-3)


def test_the_slots_are_cocos_80_classes_in_cocos_order() -> None:
    for body in NAMES:
        names = get_model_weights(body)["COCO_V1"].meta["categories"]
        chosen = [names[slot] for slot in class_slots(body)]
        assert len(chosen) == 80 and chosen[0] == "person" and chosen[-1] == "toothbrush"
        assert (class_slots(body)[11], names[class_slots(body)[11]]) == (13, "stop sign")  # 12 is no class


def test_selecting_rows_equals_selecting_logits() -> None:
    weight = torch.randn(9 * 91, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    state = {"head.classification_head.cls_logits.weight": weight}
    body, images = "retinanet_resnet50_fpn", torch.randn(1, 4, 5, 6).double()
    rows = adapted(state, body=body, num_classes=80, num_anchors=9)[next(iter(state))]
    all_BCHW = nn.functional.conv2d(images, weight).unflatten(1, (9, 91))[:, :, class_slots(body)]
    assert torch.equal(nn.functional.conv2d(images, rows).unflatten(1, (9, 80)), all_BCHW)


@pytest.mark.parametrize("body", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_a_file_of_your_classes_behind_a_background_teaches_them_and_says_so(
    body: str, tmp_path: Path
) -> None:
    """As torchvision trains: labels count from 1, and slot 0 stays empty."""
    model = get_model(body, weights=None, weights_backbone=None, num_classes=4)
    bias = model.head.classification_head.cls_logits.bias
    with torch.no_grad():
        bias.copy_(torch.arange(len(bias)))
    torch.save(model.state_dict(), tmp_path / "own.pt")
    three = DataClasses(("disc", "bar", "cross"), "coco:DIR")
    weights = str(tmp_path / "own.pt")
    network, _, line = resolve_teacher(
        f"tv:{body}", tmp_path, num_classes=3, weights=weights, classes=three, task="detection"
    )
    anchors = ANCHORS.get(body, 9)
    kept = network.state_dict()["model.head.classification_head.cls_logits.bias"]
    assert kept.tolist() == bias.reshape(anchors, 4)[:, 1:].flatten().tolist()
    assert "of its 4 slots the first, torchvision's background, was left out" in line
    assert network.config.class_difference(three.names) == ""
    whole, _, line = resolve_teacher(f"tv:{body}", tmp_path, num_classes=4, weights=weights, task="detection")
    assert whole.num_classes == 4 and "background" not in line


def test_names_of_the_first_files_are_those_of_today() -> None:
    body = "retinanet_resnet50_fpn"
    today = get_model(body, weights=None, weights_backbone=None, num_classes=3).state_dict()
    old = {}
    for name, value in today.items():
        parts = name.split(".")
        if ".conv." in name and name.startswith("head"):
            parts = [*parts[:3], str(2 * int(parts[3])), parts[5]]
        elif "blocks." in name and "fpn" in name and "extra" not in name:
            parts.pop(4)
        old[".".join(parts)] = value
    assert "backbone.fpn.inner_blocks.0.weight" in old and "head.regression_head.conv.6.bias" in old
    assert set(adapted(old, body=body, num_classes=3, num_anchors=9)) == set(today)
    assert set(adapted(today, body=body, num_classes=3, num_anchors=9)) == set(today)
    fcos = get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None, num_classes=3).state_dict()
    assert set(adapted(fcos, body="fcos_resnet50_fpn", num_classes=3, num_anchors=1)) == set(fcos)


def test_a_student_of_other_classes_takes_all_but_the_last_layer(tmp_path: Path) -> None:
    body = "fcos_resnet50_fpn"
    model = trained(body)
    ours(model, body, tmp_path)
    path = str(tmp_path / "theirs.safetensors")
    student = build_network(f"tv:{body}", task="detection", num_classes=3, weights=path, role="student")
    own, theirs = student.model.state_dict(), model.state_dict()
    assert torch.equal(
        own["head.regression_head.bbox_reg.weight"], theirs["head.regression_head.bbox_reg.weight"]
    )
    assert own["head.classification_head.cls_logits.weight"].shape[0] == 3
    assert not student.trained_head
    with pytest.raises(BadWeights, match="the weights tell 80 classes apart, the data have 3"):
        build_network(f"tv:{body}", task="detection", num_classes=3, weights=path)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What the hub would give: COCO_V1 of `fcos_resnet50_fpn`, with other weights."""
    state: dict[str, Tensor] = trained("fcos_resnet50_fpn").state_dict()
    monkeypatch.setattr(downloads, "_fetch", lambda read, tag, name, files: state)
    return state


def test_coco_weights_teach_other_classes_as_what_they_are(
    published: dict[str, Tensor], tmp_path: Path
) -> None:
    """80 classes by COCO's names, whatever the data have; nothing is said where these are the same."""
    rows = 80 * len(published["head.classification_head.cls_logits.bias"]) // 91
    three = DataClasses(("disc", "bar", "cross"), "coco:DIR")
    network, _, _ = resolve_teacher("tv:fcos_resnet50_fpn", tmp_path, num_classes=3, classes=three)
    assert network.num_classes == rows == 80
    assert network.config.class_difference(three.names) == (
        "class 0 is 'disc' in the data and 'person' of the teacher"
    )
    coco = DataClasses(network.config.class_names, "coco:DIR")
    own, _, _ = resolve_teacher("tv:fcos_resnet50_fpn", tmp_path, num_classes=80, classes=coco)
    assert own.config.class_names == () and own.config.class_difference(coco.names) == ""


def test_a_student_of_other_classes_begins_with_coco_weights_by_their_tag(
    published: dict[str, Tensor],
) -> None:
    student = build_network(
        "tv:fcos_resnet50_fpn", task="detection", num_classes=3, weights="COCO_V1", role="student"
    )
    own, last = student.model.state_dict(), "head.classification_head.cls_logits"
    same = [n for n, value in published.items() if not n.startswith(last) and torch.equal(own[n], value)]
    assert len(same) == len(own) - 2 and own[f"{last}.bias"].shape == (3,)
    (note,) = student.notes
    assert note == (
        "the student begins with COCO_V1 of torchvision; its last layer is new: the file tells other classes "
        "apart than these 3"
    )
    with pytest.raises(BadOption, match="was trained for the 21 classes of VOC, not for 3") as caught:
        build_network(
            "tv:deeplabv3_resnet50",
            task="segmentation",
            num_classes=3,
            weights="COCO_WITH_VOC_LABELS_V1",
            role="student",
        )
    assert "--data voc:DIR" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "owner"), [("retinanet:r50", "retinanet_resnet50_fpn"), ("fcos:r18", "fcos_resnet50_fpn")]
)
def test_weights_of_a_whole_network_are_none_of_an_encoder_and_the_network_is_named(
    name: str, owner: str
) -> None:
    with pytest.raises(BadOption) as caught:
        build_network(name, task="detection", num_classes=3, weights="COCO_V1", role="student")
    written = {"retinanet:r50": "retinanet:resnet50", "fcos:r18": "fcos:resnet18"}[name]
    assert caught.value.what == (
        f"'COCO_V1' names weights of whole networks of torchvision, and {written} takes those of its encoder"
    )
    assert caught.value.where == f"weights of {written}"
    assert caught.value.fix == f"take --student tv:{owner} --weights COCO_V1, or --weights imagenet"


def test_a_network_of_one_task_is_none_of_another() -> None:
    with pytest.raises(
        BadOption, match="'tv:fcos_resnet50_fpn' is a network for detection, and the data are"
    ):
        build_network("tv:fcos_resnet50_fpn", task="segmentation", num_classes=21)
    with pytest.raises(BadOption, match="'tv:fcn_resnet50' is a network for segmentation, and the data are"):
        build_network("tv:fcn_resnet50", task="detection", num_classes=80)


def cached(body: str) -> Path:
    url = str(get_model_weights(body)["COCO_V1"].url)
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


@pytest.mark.slow
@pytest.mark.parametrize("body", NAMES)
def test_the_published_file_is_a_teacher(body: str, tmp_path: Path) -> None:
    if not cached(body).is_file():
        pytest.skip(f"{cached(body)} is not there")
    network, _, said = resolve_teacher(f"tv:{body}", tmp_path, num_classes=80)
    assert network.trained_head and "COCO_V1" in said
    published: dict[str, Tensor] = torch.load(cached(body), weights_only=True)
    bias = published["head.classification_head.cls_logits.bias"].reshape(-1, 91)[:, class_slots(body)]
    assert torch.equal(network.state_dict()["model.head.classification_head.cls_logits.bias"], bias.flatten())
