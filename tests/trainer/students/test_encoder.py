"""What of a student's encoder learns, how fast, which statistics it keeps; neck and head of a teacher."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.schedule import make_optimizer, set_lr
from kdcache.trainer.students.encoder import encoder_parameters, freeze_first_stage
from kdcache.trainer.students.initial import inherit
from kdcache.trainer.students.options import StudentOptions
from kdcache.trainer.students.peers import Peers
from kdcache.trainer.students.student import build_student

SMALL = "gfl(width=32,convs=1):r18"
OPTIONS = TrainConfig(run="r", lr=0.4, momentum=0.9, weight_decay=0.01)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of a whole ResNet-18, of random weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), path)
    return str(path)


def student(task: str = "detection", name: str = SMALL, **options: object) -> Network:
    torch.manual_seed(0)
    chosen = StudentOptions(student=name, **options)  # type: ignore[arg-type]
    return build_student(chosen, num_classes=3, output_stride=None, task=task)


def frozen_of(network: Network) -> set[str]:
    """First two words behind the encoder of what gets no gradient."""
    names = [n for n, p in network.model.named_parameters() if not p.requires_grad]
    assert all(name.startswith("encoder.model.") for name in names)
    return {name.removeprefix("encoder.model.").partition(".")[0] for name in names}


def still(network: Network) -> set[str]:
    """Batch normalisations that keep their statistics while the network trains."""
    network.train()
    norms = {n: m for n, m in network.model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    return {name for name, module in norms.items() if not module.training}


def test_a_detection_student_with_a_trained_encoder_freezes_its_first_stage_and_all_statistics(
    backbone: str,
) -> None:
    network = student(weights=backbone)
    assert frozen_of(network) == {"conv1", "bn1", "layer1"}
    assert len(still(network)) == 20  # all of a ResNet-18
    before = {n: b.clone() for n, b in network.named_buffers()}
    network(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8), ["cls3"])["cls3"].sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    grads = {n: p.grad for n, p in network.model.named_parameters()}
    assert grads["encoder.model.layer1.1.conv2.weight"] is None
    assert grads["encoder.model.layer2.0.conv1.weight"] is not None
    assert grads["encoder.model.layer2.0.bn1.weight"] is not None  # the affine part goes on learning


def test_freeze_none_lets_all_weights_learn_and_keeps_the_statistics(backbone: str) -> None:
    network = student(weights=backbone, freeze="none")
    assert frozen_of(network) == set() and len(still(network)) == 20


def test_random_weights_are_never_frozen_unless_somebody_says_so() -> None:
    network = student(weights="none")
    assert frozen_of(network) == set() and still(network) == set()
    network = student(weights="none", freeze="stem+stage1")
    assert frozen_of(network) == {"conv1", "bn1", "layer1"}
    # 5 of the first stage and stem; what learns keeps learning its statistics too.
    assert len(still(network)) == 5


def test_other_tasks_freeze_only_what_is_said(backbone: str) -> None:
    network = student("segmentation", "r18", weights=backbone)
    assert frozen_of(network) == set() and still(network) == set()
    network = student("segmentation", "r18", weights=backbone, freeze="stem+stage1")
    assert frozen_of(network) == {"conv1", "bn1", "layer1"} and len(still(network)) == 5


def test_the_first_stage_of_a_mobilenet_ends_at_stride_4() -> None:
    network = student(name="gfl(width=32,convs=1):mbv2", weights="none", freeze="stem+stage1")
    names = [n for n, p in network.model.named_parameters() if not p.requires_grad]
    tops = {".".join(name.removeprefix("encoder.model.").split(".")[:2]) for name in names}
    assert tops == {"conv_stem.weight", "bn1.weight", "bn1.bias", "blocks.0", "blocks.1"}


def test_an_encoder_whose_first_stage_is_not_known_is_not_frozen_in_silence() -> None:
    network = build_network("resnet20", task="classification", num_classes=3)
    with pytest.raises(BadOption, match="where the first stage of resnet20 ends is not known") as caught:
        freeze_first_stage(network)
    assert caught.value.where == "--freeze stem+stage1" and "--freeze none" in caught.value.fix


def stepped(config: TrainConfig, network: Network, steps: int, lr: float) -> dict[str, torch.Tensor]:
    """Weights after steps of a gradient of ones."""
    optimizer = make_optimizer(network.parameters(), config, encoder=encoder_parameters(network))
    for _ in range(steps):
        set_lr(optimizer, lr)
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_encoder_moves_as_torchs_own_optimizer_at_its_share_of_the_rate(optimizer: str) -> None:
    config = TrainConfig(run="r", optimizer=optimizer, lr=0.4, weight_decay=0.01, encoder_lr=0.25)
    moved = stepped(config, student(weights="none"), 3, 0.2)
    for share, part in ((0.25, "encoder"), (1.0, "rest")):
        network = student(weights="none")
        chosen = [
            p for n, p in network.named_parameters() if n.startswith("model.encoder.") == (part == "encoder")
        ]
        assert len(chosen) > 10
        extra = {"momentum": 0.9} if optimizer == "sgd" else {}
        kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
        own = kind(chosen, lr=0.2 * share, weight_decay=0.01, **extra)  # type: ignore[operator]
        for _ in range(3):
            for parameter in chosen:
                parameter.grad = torch.ones_like(parameter)
            own.step()
        for name, parameter in network.named_parameters():
            if name.startswith("model.encoder.") == (part == "encoder"):
                assert torch.equal(moved[name], parameter), name


def test_a_share_of_one_is_one_group_as_before() -> None:
    optimizer = make_optimizer(student(weights="none").parameters(), OPTIONS)
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.4 and "share" not in group


def test_a_resumed_optimizer_keeps_the_share_of_its_encoder() -> None:
    config = TrainConfig(run="r", lr=0.4, weight_decay=0.01, encoder_lr=0.25)
    whole = stepped(config, student(weights="none"), 4, 0.2)
    network = student(weights="none")
    first = make_optimizer(network.parameters(), config, encoder=encoder_parameters(network))
    for half in range(2):
        optimizer = make_optimizer(network.parameters(), config, encoder=encoder_parameters(network))
        if half:
            optimizer.load_state_dict(first.state_dict())
        for _ in range(2):
            set_lr(optimizer, 0.2)
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        first = optimizer
    assert all(torch.equal(whole[name], parameter) for name, parameter in network.named_parameters())


def test_the_classifier_of_a_whole_network_is_no_encoder() -> None:
    network = build_network("r18", task="classification", num_classes=3)
    own = {id(parameter) for parameter in encoder_parameters(network)}
    names = {name for name, parameter in network.model.named_parameters() if id(parameter) not in own}
    assert names == {"network.fc.weight", "network.fc.bias"}


def test_frozen_weights_are_in_no_group() -> None:
    network = student(weights="none", freeze="stem+stage1")
    config = TrainConfig(run="r", encoder_lr=0.5)
    optimizer = make_optimizer(network.parameters(), config, encoder=encoder_parameters(network))
    held = sum(len(group["params"]) for group in optimizer.param_groups)
    assert held == sum(parameter.requires_grad for parameter in network.parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]


def test_each_peers_encoder_has_the_share() -> None:
    peers = Peers(lambda: student(weights="none"), count=2, deployed=0)
    own = len(list(encoder_parameters(peers.networks[0])))
    assert len(list(encoder_parameters(peers))) == 2 * own > 0


def test_a_share_without_an_encoder_is_refused() -> None:
    network = build_network("resnet20", task="classification", num_classes=3)
    config = TrainConfig(run="r", encoder_lr=0.5)
    with pytest.raises(BadOption, match="without an encoder that is known and learns") as caught:
        make_optimizer(network.parameters(), config, encoder=encoder_parameters(network))
    assert caught.value.where == "--encoder-lr 0.5" and "leave --encoder-lr out" in caught.value.fix


def test_neck_and_head_of_the_teacher_are_copied_where_shapes_agree() -> None:
    teacher = build_network("gfl(width=32,convs=1):mbv2", task="detection", num_classes=3)
    own = student(weights="none")
    before = {name: value.clone() for name, value in own.state_dict().items()}
    said = inherit(own, teacher, "teacher 't'")
    theirs, after = teacher.state_dict(), own.state_dict()
    for name, value in after.items():
        if name.startswith("model.encoder.") or "inner_blocks" in name and name.endswith("weight"):
            assert torch.equal(value, before[name]), name
        elif name.startswith("model."):
            assert torch.equal(value, theirs[name]), name
    assert torch.equal(after["normalise.mean"], before["normalise.mean"])
    assert said.startswith("neck and head begin with those of teacher 't': ")
    assert ", 3 not: model.neck.levels.inner_blocks.0.0.weight (32x32x1x1, here 32x128x1x1)" in said


def test_a_teacher_of_other_classes_leaves_the_last_layer() -> None:
    teacher = build_network(SMALL, task="detection", num_classes=5)
    own = student(weights="none")
    said = inherit(own, teacher, "teacher 't'")
    assert ", 2 not: model.head.cls.weight (5x32x3x3, here 3x32x3x3), model.head.cls.bias (5, here 3)" in said
    assert torch.equal(
        own.state_dict()["model.head.bins.weight"], teacher.state_dict()["model.head.bins.weight"]
    )


def test_nothing_that_fits_and_several_students_are_refused() -> None:
    own = student(weights="none")
    wide = build_network("fcos:mbv2", task="detection", num_classes=3)
    with pytest.raises(BadOption, match="nothing of fcos:mobilenetv2_100 behind its encoder fits") as caught:
        inherit(own, wide, "t")
    assert caught.value.where == "--inherit neck+head" and "leave --inherit out" in caught.value.fix
    with pytest.raises(BadOption, match="--inherit is for one student, and this loss trains several"):
        inherit(Peers(lambda: student(weights="none"), count=2, deployed=0), own, "t")
    bare = build_network("resnet20", task="classification", num_classes=3)
    with pytest.raises(BadOption, match="--inherit is for one student with an encoder that is known"):
        inherit(bare, own, "t")


def test_inherit_needs_a_teacher_and_no_run_that_gives_the_whole_student(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="--inherit without a teacher: a cache has its answers") as caught:
        TrainConfig(run="r", inherit="neck+head")
    assert caught.value.fix.startswith("add --teacher RUN")
    assert TrainConfig(run="r", inherit="neck+head", teacher="t").asks_teacher
    with pytest.raises(BadOption, match="--init and --inherit together"):
        TrainConfig(run="r", inherit="neck+head", teacher="t", init="first")
    with pytest.raises(BadOption, match="--teacher t without --online"):
        TrainConfig(run="r", teacher="t")
    with pytest.raises(BadOption, match="unknown value of --inherit 'head'"):
        TrainConfig(run="r", teacher="t", inherit="head")
