"""The student of a run: which network, with which auxiliary head, from which weights."""

import re

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import NONE, build_network
from kdcache.cache.networks.names import CUSTOM, parse_name
from kdcache.cache.networks.network import Network
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_of
from kdcache.trainer.students.encoder import settle_encoder
from kdcache.trainer.students.options import StudentOptions

# The methods' papers put the auxiliary head on stage 3 of ResNets; MobileNets have none.
_RESNET = re.compile(r"^r\d+$|resne[xs]?t", re.IGNORECASE)


def has_aux(options: StudentOptions) -> bool:
    """--aux / --no-aux where given, otherwise on for ResNets."""
    return bool(_RESNET.search(options.student)) if options.aux is None else options.aux


def build_student(
    options: StudentOptions, *, num_classes: int, output_stride: int | None, task: Task
) -> Network:
    """The student begins with `--weights`, else with those that its task gives a student; with none where a
    factory of the user's own makes it, or a run gives the whole student (`--init`).

    The caller seeds torch beforehand. Raises BadOption, BadWeights, Missing.
    """
    rules = task_of(task).networks
    if options.aux and rules.no_aux:
        raise BadOption(
            f"--aux for {task}: {rules.no_aux}",
            where="--aux",
            fix="leave --aux out; byot puts exits with classifiers on the stages",
        )
    bare = parse_name(options.student, task=task).family == CUSTOM or options.init is not None
    weights = options.weights or (NONE if bare else rules.student_weights)
    network = build_network(
        options.student,
        task=task,
        num_classes=num_classes,
        output_stride=output_stride,
        aux=not rules.no_aux and has_aux(options),
        weights=weights,
        role="student",
    )
    settle_encoder(network, options, begins_trained=weights != NONE or options.init is not None)
    return network
