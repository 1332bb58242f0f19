"""A network cut before its last stage: one trunk, and as many fresh last stages as somebody wants.

For methods that train several branches of one student (ONE, OKDDip, CL-ILR). The trunk holds the network's
own modules, so weights that were loaded go along; every branch starts from new random weights.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.families.cifar import CifarResNet, WideResNet
from kdcache.cache.networks.network import Network


class Split(NamedTuple):
    """`trunk`: normalised (B, 3, H, W) -> (B, C, h, w). `make_branch()`: a module from there to a
    dictionary of 'embedding' (B, D) and 'logits' (B, K)."""

    trunk: nn.Module
    make_branch: Callable[[], nn.Module]
    trunk_channels: int


class Branch(nn.Module):
    """A last stage with its pooling, and a classifier."""

    def __init__(self, stage: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.classifier = classifier

    def forward(self, maps_BCHW: Tensor) -> dict[str, Tensor]:
        embedding_BD = self.stage(maps_BCHW)
        return {"embedding": embedding_BD, "logits": self.classifier(embedding_BD)}


class First(nn.Module):
    """The first of the two maps that a stage of the CIFAR networks returns."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


def split_last_stage(model: nn.Module) -> Split:
    """Cuts a Network, or the module inside it. Raises BadOption for a network without a known last stage."""
    inner = model.model if isinstance(model, Network) else model
    if isinstance(inner, CifarResNet):
        cifar = inner  # its type must survive into the lambda
        steps = (cifar.conv1, cifar.bn1, cifar.relu, cifar.layer1, First(), cifar.layer2, First())
        return Split(nn.Sequential(*steps), lambda: _cifar_branch(cifar.fresh()), cifar.form[1][2])
    if isinstance(inner, WideResNet):
        wide = inner
        trunk = nn.Sequential(wide.conv1, wide.block1, First(), wide.block2, First())
        return Split(trunk, lambda: _wide_branch(wide.fresh()), wide.widths[2])
    if (split := _split_timm(inner)) is not None:
        return split
    name = model.name if isinstance(model, Network) else type(inner).__name__
    raise BadOption(
        f"{name} cannot be cut before its last stage",
        where="a student with several branches",
        fix="take a CIFAR ResNet (resnet32, resnet8x4), a wide one (wrn-16-2) or a ResNet of timm (r18)",
    )


def _split_timm(whole: nn.Module) -> Split | None:
    """Of a ResNet of timm; None for any other network."""
    from timm.models.resnet import ResNet  # timm loads where a network is cut that may be one of its

    from kdcache.cache.networks.families.timm import Classifier

    if not (isinstance(whole, Classifier) and isinstance(whole.network, ResNet)):
        return None
    body = whole.network
    stem = (body.conv1, body.bn1, body.act1, body.maxpool)
    trunk = nn.Sequential(*stem, body.layer1, body.layer2, body.layer3)
    return Split(trunk, lambda: _timm_branch(whole.fresh()), int(body.feature_info[-2]["num_chs"]))


def _cifar_branch(net: CifarResNet) -> Branch:
    return Branch(nn.Sequential(net.layer3, First(), net.pool), net.get_submodule(net.classifier_name))


def _wide_branch(net: WideResNet) -> Branch:
    return Branch(nn.Sequential(net.block3, First(), net.bn1, net.relu, net.pool), net.fc)


def _timm_branch(net: nn.Module) -> Branch:
    return Branch(
        nn.Sequential(net.get_submodule("layer4"), net.get_submodule("global_pool")), net.get_submodule("fc")
    )
