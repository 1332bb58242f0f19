"""The encoder of a student apart from its head: what of it learns, how fast, and which statistics it keeps.

Detectors are trained with batches of two to four images, too few to learn batch statistics again: the
published recipes keep those of the pretrained encoder, and do not move its stem and first stage at all.
"""

from collections.abc import Iterator

from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.tasks.table import task_of
from kdcache.trainer.students.options import NOTHING, StudentOptions

FIRST_STAGE = "stage1"  # the tap behind the last module that `stem+stage1` freezes


def settle_encoder(network: Network, options: StudentOptions, *, begins_trained: bool) -> None:
    """Freezes and rests what the options say, else what the task does; of an encoder that begins with random
    weights, or is not known, only what the options say. Raises BadOption where stage 1 is not known."""
    rules = task_of(network.task).networks
    usual = begins_trained and network.encoder is not None
    if usual and rules.rests_norms:
        rest_norms(network, "")
    if (options.freeze or (rules.frozen if usual else NOTHING)) != NOTHING:
        freeze_first_stage(network)


def freeze_first_stage(network: Network) -> None:
    """Parameters of the encoder up to the end of stage 1 get no gradient, its batch normalisations there keep
    their statistics. Raises BadOption where stage 1 is no module of the encoder."""
    last = _first_stage(network)
    encoder = network.model.get_submodule(network.backbone_path)
    within = False
    for name, module in encoder.named_modules():
        inside = name == last or name.startswith(f"{last}.")
        if within and not inside:
            break
        within = within or inside
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        rest_norms(network, name, recurse=False)


def rest_norms(network: Network, path: str, *, recurse: bool = True) -> None:
    """Batch normalisations below this module of the encoder stay in evaluation mode, from the next `train()`
    on."""
    start = ".".join(part for part in (network.backbone_path, path) if part)
    module = network.model.get_submodule(start)
    named = module.named_modules() if recurse else iter([("", module)])
    norms = {
        ".".join(part for part in (start, name) if part)
        for name, child in named
        if isinstance(child, nn.modules.batchnorm._BatchNorm)
    }
    network.resting |= norms


def encoder_parameters(student: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of the encoders of every network inside, without the layer whose size is the classes'."""
    for network in student.modules():
        if isinstance(network, Network) and network.encoder is not None:
            heads = tuple(f"{path}." for path in network.heads)
            start = f"{network.backbone_path}."
            for name, parameter in network.model.named_parameters():
                if name.startswith(start) and not name.startswith(heads):
                    yield parameter


def _first_stage(network: Network) -> str:
    """The path of stage 1 within the encoder."""
    place = network.taps.get(FIRST_STAGE, "")
    start = f"{network.backbone_path}."
    if network.encoder is None or "#" in place or not place.startswith(start):
        raise BadOption(
            f"--freeze stem+stage1: where the first stage of {network.name} ends is not known",
            where="--freeze stem+stage1",
            fix="add --freeze none, or take a ResNet or MobileNet encoder",
        )
    return place.removeprefix(start)
