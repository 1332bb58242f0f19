"""Every loss by name. A loss of one's own is named as 'package.module:Class' and needs no entry.

Entries are text so that listing the names imports no tensor library.
"""

import importlib
from typing import TYPE_CHECKING

from kdcache.cache.spec import SEGMENTATION, BadOption, Need, Task, unknown

if TYPE_CHECKING:
    from kdcache.losses.contract import LossTerm

TASK = "task"
TASK_LOSSES: dict[Task, str] = {
    "segmentation": "kdcache.losses.supervised.task:SegmentationTask",
    "classification": "kdcache.losses.supervised.task:ClassificationTask",
}
LOSSES: dict[str, str] = {
    # class scores, of images or of pixels
    "kd": "kdcache.losses.logits.kd:KD",
    "dkd": "kdcache.losses.logits.dkd:DecoupledKD",
    "nkd": "kdcache.losses.logits.nkd:NormalisedKD",
    "dist": "kdcache.losses.logits.dist:Dist",
    "tfkd-self": "kdcache.losses.logits.tfkd_self:SelfTraining",
    "tfkd-reg": "kdcache.losses.logits.tfkd_reg:VirtualTeacher",
    "label-smoothing": "kdcache.losses.logits.label_smoothing:LabelSmoothing",
    "kd-topk": "kdcache.losses.logits.kd_topk:TopK",
    "kd-pt": "kdcache.losses.logits.kd_pt:InstanceDifficulty",
    "kd-sim": "kdcache.losses.logits.kd_sim:ClassSimilarity",
    # features and embeddings
    "fitnet": "kdcache.losses.features.fitnet:FitNet",
    "at": "kdcache.losses.features.at:AttentionTransfer",
    "rkd-d": "kdcache.losses.features.rkd_d:Distances",
    "rkd-a": "kdcache.losses.features.rkd_a:Angles",
    "rkd": "kdcache.losses.features.rkd:Relations",
    "crd": "kdcache.losses.features.crd:ContrastiveRepresentation",
    "reviewkd": "kdcache.losses.features.reviewkd:Review",
    "sskd": "kdcache.losses.features.sskd:SelfSupervision",
    "pkd": "kdcache.losses.features.pkd:PearsonFeatures",
    # maps of segmentation networks
    "cwd": "kdcache.losses.dense.cwd:ChannelWise",
    "skds-pixel": "kdcache.losses.dense.skds_pixel:PixelWise",
    "skds-pair": "kdcache.losses.dense.skds_pair:PairWise",
    "skds-holistic": "kdcache.losses.dense.skds_holistic:Holistic",
    "skds": "kdcache.losses.dense.skds:Structured",
    "ifvd": "kdcache.losses.dense.ifvd:IntraClassVariation",
    "cirkd": "kdcache.losses.dense.cirkd:CrossImage",
    "dsd": "kdcache.losses.dense.dsd:DoubleSimilarity",
    "mgd": "kdcache.losses.dense.mgd:MaskedGeneration",
    "gdd": "kdcache.losses.dense.gdd:GenerativeDenoise",
    "afdcd": "kdcache.losses.dense.afdcd:DenseContrast",
    # no cached teacher
    "dml": "kdcache.losses.peers.dml:MutualLearning",
    "okddip": "kdcache.losses.peers.okddip:DiversePeers",
    "one": "kdcache.losses.peers.one:NativeEnsemble",
    "cl-ilr": "kdcache.losses.peers.cl_ilr:CollaborativeLearning",
    "byot": "kdcache.losses.peers.byot:OwnTeacher",
    "dafl": "kdcache.losses.peers.dafl:DataFree",
}
NONE = "none"  # the expression for training without distillation: the task loss alone


def loss_names() -> tuple[str, ...]:
    """Names that an expression may use, 'none' first."""
    return (NONE, TASK, *LOSSES)


def needs_of(expression: str, *, task: Task = SEGMENTATION) -> tuple[Need, ...]:
    """What a teacher must provide for an expression. The settings of a dataset do not change that."""
    from kdcache.losses.plan.plan import parse_losses  # late, as below; and a plan itself reads this table

    return parse_losses(expression, preset=None, task=task).needs


def load_loss(name: str, *, where: str, task: Task = SEGMENTATION) -> type["LossTerm"]:
    """The class behind a name or behind 'package.module:Class'. BadOption when there is none."""
    if name == TASK:
        return _import_class(TASK_LOSSES[task], where)
    if ":" in name:
        return _import_class(name, where)
    if name not in LOSSES:
        raise unknown("loss", name, loss_names(), where=where)
    return _import_class(LOSSES[name], where)


def _import_class(path: str, where: str) -> type["LossTerm"]:
    from kdcache.losses.contract import LossTerm  # late: listing the names must stay light

    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists and misses an import of its own: its author wants that traceback
        raise BadOption(
            f"there is no module '{error.name}' to import",
            where=where,
            fix="install it or set PYTHONPATH to its folder",
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, LossTerm)]
        raise unknown(f"class of module '{module_name}'", class_name, classes, where=where)
    if not (isinstance(found, type) and issubclass(found, LossTerm)):
        raise BadOption(
            f"'{path}' is not a loss class",
            where=where,
            fix="derive it from kdcache.losses.contract.LossTerm",
        )
    return found
