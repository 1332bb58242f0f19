"""The student of a run: which network, with which auxiliary head, from which weights."""

import re

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import NONE, build_network
from kdcache.cache.networks.names import CUSTOM, parse_name
from kdcache.cache.networks.network import Network
from kdcache.cache.spec import CLASSIFICATION, SEGMENTATION, Task
from kdcache.trainer.config import TrainConfig

# The methods' papers put the auxiliary head on stage 3 of ResNets; MobileNets have none.
_RESNET = re.compile(r"^r\d+$|resne[xs]?t", re.IGNORECASE)


def has_aux(config: TrainConfig) -> bool:
    """--aux / --no-aux where given, otherwise on for ResNets."""
    return bool(_RESNET.search(config.student)) if config.aux is None else config.aux


def build_student(
    config: TrainConfig, *, num_classes: int, output_stride: int | None, task: Task = SEGMENTATION
) -> Network:
    """A segmentation student has its backbone from `--weights`: ImageNet's unless a factory of the user's
    own makes it, or a run gives the whole student (`--init`). A classifier starts from random weights unless
    `--weights` names some.

    The caller seeds torch beforehand. Raises BadOption, BadWeights, Missing.
    """
    if config.aux and task == CLASSIFICATION:
        raise BadOption(
            "--aux for classification: the auxiliary head is a segmentation network's",
            where="--aux",
            fix="leave --aux out; byot puts exits with classifiers on the stages",
        )
    own = parse_name(config.student, task=task).family == CUSTOM
    bare = own or task == CLASSIFICATION or config.init is not None
    return build_network(
        config.student,
        task=task,
        num_classes=num_classes,
        output_stride=output_stride,
        aux=task == SEGMENTATION and has_aux(config),
        weights=config.weights or (NONE if bare else "imagenet"),
        role="student",
    )
