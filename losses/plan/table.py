"""Every method by name. A loss of one's own is named as 'package.module:Class' and needs no entry.

Entries are text so that listing the names imports no tensor library; `load.py` imports the classes.
"""

TASK = "task"  # the supervised loss, whose class is the task's own (`kdcache.cache.tasks.table`)
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
    # maps of dense detectors
    "bckd": "kdcache.losses.detection.bckd:BinaryClassification",
    "ld": "kdcache.losses.detection.ld:LocalisationDistillation",
    "gid": "kdcache.losses.detection.gid:GeneralInstances",
    "fgd": "kdcache.losses.detection.fgd:FocalGlobal",
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
