"""Options of the student: which network, what it begins with, which form of it is kept."""

from dataclasses import dataclass

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import MOST_STRIDE
from kdcache.trainer.folder.option_field import Legal, Section, option, positive

NOTHING = "none"
FREEZES = (NOTHING, "stem+stage1")
INHERITS = ("neck+head",)
_DECAY = Legal("a decay between 0 and 1, such as 0.999", lambda decay: 0 < decay < 1)


@dataclass(frozen=True, kw_only=True)
class StudentOptions(Section):
    """None stands for "decided from the task or the network"."""

    student: str = option(
        "r18",
        help="r18, r50, resnet20, wrn-16-2, timm:NAME, package.module:factory; of boxes gfl:r18, "
        "retinanet:r18, fcos:r18, atss:r18, tv:NAME ...",
    )
    weights: str | None = option(
        None,
        help="none, imagenet, a tag or a file.",
        said="the backbone's imagenet; for classification none",
    )
    init: str | None = option(None, help="Begin with the student and learned parts of this run.")
    inherit: str | None = option(
        None,
        help="With --teacher: copy what fits of the teacher's part behind the encoder.",
        choices=INHERITS,
    )
    freeze: str | None = option(
        None,
        help="What of the encoder does not learn.",
        said="stem+stage1 for detecting with pretrained weights, otherwise none",
        choices=FREEZES,
    )
    output_stride: int | None = option(
        None, help="Segmentation.", said="the cached teacher's, otherwise 8", legal=positive(MOST_STRIDE)
    )
    aux: bool | None = option(None, help="Auxiliary head on stage 3.", said="on for segmenting ResNets")
    ema: float | None = option(
        None, help="Decay of averaged weights, which are then judged and exported.", legal=_DECAY
    )

    def check(self) -> None:
        super().check()
        if self.init and self.weights:
            raise BadOption(
                "--init and --weights together: both say what the student begins with",
                where=f"--init {self.init} --weights {self.weights}",
                fix="give one of them: --init takes a run's whole student, --weights a backbone",
            )
        if self.init and self.inherit:
            raise BadOption(
                "--init and --inherit together: both say what neck and head begin with",
                where=f"--init {self.init} --inherit {self.inherit}",
                fix="give one of them: --init takes a run's whole student, --inherit neck and head alone",
            )
