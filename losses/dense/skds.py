"""Structured distillation as published: pixel-wise, pair-wise and holistic together.

    L = 10 * pixel-wise + 0.5 * pair-wise + 0.1 * holistic

The name stands for the pair-wise term and brings the other two as companions, so each can be replaced or
left out: `skds(skds-holistic=0)`, `skds+skds-holistic(adversarial=hinge)`, `skds(weight=1)` for the
pair-wise one.
Liu et al. 2019, https://arxiv.org/abs/1903.04197; structure_knowledge_distillation ce208e1.
"""

from kdcache.losses.contract import Method
from kdcache.losses.dense.skds_pair import PairWise


class Structured(PairWise):
    """Options are those of the pair-wise term."""

    method = Method(
        title="Structured knowledge distillation",
        source="Liu et al. 2019, https://arxiv.org/abs/1903.04197",
        code="irfanICMLL/structure_knowledge_distillation ce208e1 run_train_val.sh",
        cacheable="yes; the critic learns beside the student",
        modules="a critic with an optimizer of its own",
        defaults="pixel-wise 10, pair-wise 0.5, holistic 0.1",
        published="Cityscapes mIoU PSPNet-R18 69.10 -> 74.08; CIRKD's table 75.42 DeepLabV3-R18, 73.82 MBV2",
    )
    companions = {"skds-pixel": {"weight": 10.0}, "skds-holistic": {"weight": 0.1}}
