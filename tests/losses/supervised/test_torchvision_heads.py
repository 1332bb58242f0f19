"""FCOS and RetinaNet here and in torchvision, with the same weights on the same images: the same objects
are matched, the loss terms are the same but for stated divisors, and the same boxes are detected.

torchvision's losses are called as they stand, on what its own head answers with our weights.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from bare_inputs import step_inputs
from painted_objects import paint
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen

from kdcache.cache.grid import BOX, CLS, CTR, FPN, DenseGrid
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.families.detectors.assemble import GRIDS
from kdcache.cache.networks.families.detectors.decode import decode
from kdcache.cache.networks.families.detectors.heads import seen_from, sides_of_deltas
from kdcache.cache.positions import anchors, level_rows
from kdcache.losses.contract import Facts, Maps, Weighted
from kdcache.losses.detection.matched import Matched
from kdcache.losses.supervised.detection import Supervised

CANVAS = (128, 128)  # whole cells on every level: torchvision's points are ours
CLASSES, IMAGES = 3, 3
NAMES = ("fcos", "retinanet")


class NoBackbone(nn.Module):
    out_channels = 256


class Both(NamedTuple):
    """A step of ours and one of torchvision's."""

    grid: DenseGrid
    maps: dict[str, Tensor]  # ours, with a gradient
    truth: Tensor  # (B, M, 5)
    targets: list[dict[str, Tensor]]
    outputs: dict[str, Tensor]  # of torchvision's head, leaves
    theirs: Any  # torchvision's detector, without a backbone
    anchors: list[Tensor]  # of each level, as torchvision has them

    def ours(self) -> tuple[Mapping[str, Weighted], Matched]:
        term = Supervised(Maps({}, {}, Facts(input_size=CANVAS), student_grid=self.grid))
        inputs = step_inputs(self.maps, {}, self.truth)
        matched = term.prepare(inputs)
        terms = term(inputs._replace(prepared=matched))
        assert isinstance(terms, Mapping)
        return terms, matched

    def torchvisions(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Loss terms, and which object each position is matched to."""
        seen: list[list[Tensor]] = []
        real = self.theirs.head.compute_loss

        def watched(*given: Any) -> Any:
            seen.append(given[-1])
            return real(*given)

        sizes = [[len(level) for level in self.anchors]] if self.grid.assigner == "fcos" else []
        every = [torch.cat(self.anchors)] * len(self.targets)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.theirs.head, "compute_loss", watched)
            losses: dict[str, Tensor] = self.theirs.compute_loss(self.targets, self.outputs, every, *sizes)
        return losses, seen[0]

    def slope(self, loss: Tensor, kind: str) -> Tensor:
        """(B, P, C): our gradient for the maps of a kind, position by position."""
        taps = [self.maps[tap] for tap in self.grid.groups[kind]]
        slopes = torch.autograd.grad(loss, taps, retain_graph=True)
        return torch.cat([level_rows(one, self.grid.anchors_per_cell) for one in slopes], dim=1)

    def their_slope(self, loss: Tensor, key: str) -> Tensor:
        (slope,) = torch.autograd.grad(loss, self.outputs[key], retain_graph=True)
        return slope


def painted(num_objects: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Images (B, H, W, 3) of so many objects, and a truth (B, M, 5) around them: a third as they are, others
    2 and 4 times as large. No side lies on a whole pixel: at the end of a level's range torchvision compares
    strictly."""
    drawn = [paint(number, CANVAS, count) for number, count in enumerate(num_objects)]
    truth = torch.full((len(drawn), max(num_objects), 5), -1.0)
    for row, one in zip(truth, drawn, strict=True):
        boxes_M4 = torch.from_numpy(one.boxes_M4).float()
        growth_M1 = 2.0 ** (torch.arange(len(boxes_M4))[:, None] % 3)
        middle_M2, half_M2 = (boxes_M4[:, :2] + boxes_M4[:, 2:]) / 2, (boxes_M4[:, 2:] - boxes_M4[:, :2]) / 2
        edges = [middle_M2 - growth_M1 * half_M2, middle_M2 + growth_M1 * half_M2]
        row[: len(boxes_M4), :4] = torch.cat(edges, 1).clamp(1, CANVAS[0] - 1) + 0.37
        row[: len(boxes_M4), 4] = torch.from_numpy(one.classes_M)
    return torch.stack([torch.from_numpy(one.pixels_HWC) for one in drawn]), truth


@cache
def both(name: str, num_objects: tuple[int, ...] = (7, 3, 5)) -> Both:
    """Answers vary from place to place: the weights of the last layers deviate by 0.05."""
    torch.manual_seed(0)
    images, truth = painted(num_objects)
    network = build_network(f"{name}:test_resnet", task="detection", num_classes=CLASSES)
    grid = network.grid
    assert grid is not None
    head = network.model.get_submodule("head")
    with torch.no_grad():
        for path, weight in head.named_parameters():
            if path.rpartition(".")[0].endswith(("cls_logits", "bbox_reg", "bbox_ctrness")):
                weight.normal_(std=0.05)
    values = network.eval()(images, [tap for taps in grid.groups.values() for tap in taps])
    kinds = [kind for kind in grid.groups if kind != FPN]
    maps = {tap: values[tap].detach().requires_grad_() for kind in kinds for tap in grid.groups[kind]}
    theirs = torchvisions(name)
    theirs.head.load_state_dict(head.state_dict())
    with torch.no_grad():
        outputs = theirs.head([values[tap] for tap in grid.groups[FPN]])
    own = [image[image[:, 4] >= 0] for image in truth]
    return Both(
        grid,
        maps,
        truth,
        [{"boxes": image[:, :4], "labels": image[:, 4].long()} for image in own],
        {key: value.requires_grad_() for key, value in outputs.items()},
        theirs,
        cells(grid) if name == "fcos" else anchors(grid, *CANVAS),
    )


def torchvisions(name: str) -> Any:
    """With the numbers of `decode`, which are mmdet's too."""
    common = {"topk_candidates": 1000, "detections_per_img": 100, "score_thresh": 0.05, "nms_thresh": 0.5}
    if name == "fcos":
        return FCOS(NoBackbone(), CLASSES, head=FCOSHead(256, 1, CLASSES), **common)
    return RetinaNet(NoBackbone(), CLASSES, head=RetinaNetHead(256, 9, CLASSES), **common)


def cells(grid: DenseGrid) -> list[Tensor]:
    """torchvision's squares of one stride, whose centres are FCOS's points."""
    generator = AnchorGenerator(tuple((stride,) for stride in grid.strides), ((1.0,),) * len(grid.strides))
    steps = [[torch.tensor(stride)] * 2 for stride in grid.strides]
    return list(generator.grid_anchors([list(cell) for cell in grid.cells(*CANVAS)], steps))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.detach().abs().max()))


def matched_alike(matched: Matched, indices: list[Tensor], given: Both) -> None:
    for image, (index_P, target) in enumerate(zip(indices, given.targets, strict=True)):
        assert torch.equal(index_P.clamp(max=0).where(index_P < 0, target["labels"][index_P]),
                           matched.labels_BP[image])  # fmt: skip
        chosen = index_P >= 0
        assert torch.equal(target["boxes"][index_P[chosen]], matched.boxes_BP4[image, chosen])
    assert int((matched.labels_BP >= 0).sum()) > 10


def test_fcos_has_torchvisions_losses_and_its_box_term_is_weighed_by_centerness() -> None:
    """torchvision divides the plain sum over boxes by N. Here each is weighed by the centerness it should
    have, over the sum of those, as in the published code: each position's gradient differs by that factor."""
    given = both("fcos")
    (terms, matched), (losses, indices) = given.ours(), given.torchvisions()
    matched_alike(matched, indices, given)
    for name, kind, loss, key in (("cls", CLS, "classification", "cls_logits"),
                                  ("ctr", CTR, "bbox_ctrness", "bbox_ctrness")):  # fmt: skip
        close(terms[name].value, losses[loss])
        close(given.slope(terms[name].value, kind), given.their_slope(losses[loss], key))
    # d(cross-entropy)/d(logit) = score - target: what torchvision wants of a positive's centerness.
    number = matched.num_positives
    wanted = given.outputs["bbox_ctrness"].sigmoid() - number * given.their_slope(
        losses["bbox_ctrness"], "bbox_ctrness"
    )
    wanted_BP = wanted[..., 0].detach() * (matched.labels_BP >= 0)
    torch.testing.assert_close(matched.centerness_BP, wanted_BP, rtol=1e-4, atol=1e-5)
    ours = given.slope(terms["box"].value, BOX) * wanted_BP.sum()
    plain = given.their_slope(losses["bbox_regression"], "bbox_regression") * number
    close(ours, plain * wanted_BP[..., None])
    assert 0 < float(wanted_BP.sum()) < float(number)


def test_fcos_boxes_weighed_alike_have_torchvisions_value() -> None:
    """The same maps with every centerness 1: the sum of the weights is N then, and so is what is summed."""
    given = both("fcos")
    term = Supervised(Maps({}, {}, Facts(input_size=CANVAS), student_grid=given.grid))
    inputs = step_inputs(given.maps, {}, given.truth)
    matched = term.prepare(inputs)
    level = matched._replace(centerness_BP=(matched.labels_BP >= 0).float())
    terms = term(inputs._replace(prepared=level))
    assert isinstance(terms, Mapping)
    close(terms["box"].value, given.torchvisions()[0]["bbox_regression"])


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_objects_costs_what_it_costs_in_torchvision(name: str) -> None:
    given = both(name, (4, 0))
    terms, matched = given.ours()
    losses, _ = given.torchvisions()
    own = float((matched.labels_BP >= 0).sum())
    if name == "fcos":
        assert float(matched.num_positives) == own
        close(terms["cls"].value, losses["classification"])
    else:  # each image by its own N, then their mean; ours by one N, in which this image counts as one
        alone = [_image(given, image).ours()[0]["cls"].value.detach() for image in (0, 1)]
        close((alone[0] + alone[1]) / 2, losses["classification"])
        close(terms["cls"].value, (alone[0] * own + alone[1]) / (own + 1))


@pytest.mark.parametrize("image", range(IMAGES))
def test_retinanet_has_torchvisions_losses_of_an_image(image: int) -> None:
    """Of one image the divisors are the same; deltas that are coded again from sides differ by a rounding. An
    anchor that two objects claim answers for another of them here (see `max_iou`): its part is exchanged."""
    one = _image(both("retinanet"), image)
    (terms, matched), (losses, (index_P,)) = one.ours(), one.torchvisions()
    assert torch.equal(index_P.clamp(max=0), matched.labels_BP[0].clamp(max=0))
    close(terms["cls"].value, losses["classification"])
    chosen = index_P >= 0
    same_P = ~chosen | (one.targets[0]["labels"][index_P] == matched.labels_BP[0])
    slope, theirs = (
        one.slope(terms["cls"].value, CLS),
        one.their_slope(losses["classification"], "cls_logits"),
    )
    close(slope[:, same_P], theirs[:, same_P])
    said, at = one.outputs["bbox_regression"][0, chosen], torch.cat(one.anchors)[chosen]
    wanted = [matched.boxes_BP4[0, chosen], one.targets[0]["boxes"][index_P[chosen]]]
    coder = one.theirs.head.regression_head.box_coder
    own, other = ((said - coder.encode_single(boxes, at)).abs().sum(1) for boxes in wanted)
    assert len(said) > 10 and int((wanted[0] != wanted[1]).any(1).sum()) < 4
    close(terms["box"].value * len(said), losses["bbox_regression"] * len(said) + (own - other).sum())


def _image(given: Both, image: int) -> Both:
    own = slice(image, image + 1)
    return given._replace(
        maps={tap: value[own].detach().requires_grad_() for tap, value in given.maps.items()},
        truth=given.truth[own],
        targets=given.targets[own],
        outputs={key: value[own].detach().requires_grad_() for key, value in given.outputs.items()},
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_same_boxes_are_detected(name: str) -> None:
    given = both(name)
    counts = [len(level) for level in given.anchors]
    with torch.no_grad():
        answers = decode(given.maps, given.grid, CLASSES, CANVAS)
        outputs = {key: list(torch.split(value, counts, dim=1)) for key, value in given.outputs.items()}
        wanted = given.theirs.postprocess_detections(outputs, [given.anchors] * IMAGES, [CANVAS] * IMAGES)
    for own, theirs in zip(answers, wanted, strict=True):
        assert len(own.scores_N) > 10
        torch.testing.assert_close(own.scores_N, theirs["scores"], rtol=1e-5, atol=1e-6)
        assert torch.equal(own.classes_N, theirs["labels"])
        torch.testing.assert_close(own.boxes_N4, theirs["boxes"], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("canvas", "bound"), [((640, 640), 0.01), ((320, 416), 0.1)], ids=["whole", "rounded"]
)
def test_the_loss_of_torchvisions_retinanet_is_off_by_its_rounded_anchors_alone(
    canvas: tuple[int, int], bound: float
) -> None:
    """Under `tv:` weights torchvision rounds the anchors' sides, and their distance where a level is rounded
    up. Here objects are matched to and coded against the published ones: other anchors answer at times."""
    grid, generator = GRIDS["retinanet"], _default_anchorgen()
    cells = grid.cells(*canvas)
    (own,) = generator(
        ImageList(torch.zeros(1, 3, *canvas), [canvas]), [torch.zeros(1, 1, *c) for c in cells]
    )
    corners = [cell[:, 2:] - cell[:, :2] for cell in generator.cell_anchors]
    draws = torch.Generator().manual_seed(0)
    extent = torch.tensor([canvas[1], canvas[0]])
    sides = (0.05 + 0.4 * torch.rand(12, 2, generator=draws)) * extent
    corner = torch.rand(12, 2, generator=draws) * (extent - sides)
    boxes, labels = torch.cat([corner, corner + sides], 1), torch.randint(0, CLASSES, (12,), generator=draws)
    deltas = [0.1 * torch.randn(1, 36, *cell, generator=draws) for cell in cells]
    logits = [torch.randn(1, 9 * CLASSES, *cell, generator=draws) - 4 for cell in cells]
    maps = dict(zip(grid.groups[CLS], logits, strict=True))
    for tap, delta, size, stride in zip(grid.groups[BOX], deltas, corners, grid.strides, strict=True):
        maps[tap] = seen_from(sides_of_deltas(delta, size / stride), stride, canvas)
    outputs = {
        key: torch.cat([level_rows(one, 9) for one in levels], 1)
        for key, levels in (("cls_logits", logits), ("bbox_regression", deltas))
    }
    losses = torchvisions("retinanet").compute_loss([{"boxes": boxes, "labels": labels}], outputs, [own])
    term = Supervised(Maps({}, {}, Facts(input_size=canvas), student_grid=grid))
    inputs = step_inputs(maps, {}, torch.cat([boxes, labels[:, None]], 1)[None])
    terms = term(inputs._replace(prepared=term.prepare(inputs)))
    assert isinstance(terms, Mapping)
    for name, key in (("cls", "classification"), ("box", "bbox_regression")):
        assert float(terms[name].value) == pytest.approx(float(losses[key]), rel=bound), name
