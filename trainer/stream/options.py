"""Options of the stream: where pixels and targets come from, and how pixels are drawn."""

from dataclasses import dataclass

from kdcache.cache.errors import BadOption
from kdcache.cache.files.sizes import MOST_BYTES, parse_size
from kdcache.cache.views import crop as crop_size
from kdcache.trainer.folder.option_field import Legal, Section, flag, option

FRESH, STORED = "fresh", "stored"
AUTO, DALI = "auto", "dali"
_SIZE = Legal(
    f"H,W in pixels up to {crop_size.MOST_SIDE}, such as 360,360",
    lambda crop: min(crop) >= 1 and max(crop) <= crop_size.MOST_SIDE,
)


def read_size(text: str) -> int:
    """Bytes of --pixel-memory. Raises BadOption."""
    return parse_size(text, "--pixel-memory", least=0)


@dataclass(frozen=True, kw_only=True)
class StreamOptions(Section):
    """None stands for "decided from the data or the cache"."""

    data: str | None = option(  # 'camvid:/abs/dir'
        None,
        help="Fresh views of NAME:FOLDER, such as folder:DIR, camvid:DIR, cifar10:DIR or, of boxes, "
        "coco:DIR, yolo:DIR, "
        "voc-boxes:DIR, or MODULE:CLASS:FOLDER.",
    )
    val_data: str | None = option(
        None, help="Judge on the val split of NAME:FOLDER.", said="the data trained on"
    )
    cache: str | None = option(
        None,
        help="Stored views: a path, a name under caches/ or its beginning, or 'TEACHER DATA'.",
        said="the only one",
    )
    online: bool = option(False, help="Targets from a live teacher instead of the cache.")
    teacher: str | None = option(None, help="With --online or --inherit: a run's name, then a network's.")
    teacher_weights: str | None = option(
        None, help="With --online or --inherit: weights file of a teacher that is no run."
    )
    views: str | None = option(
        None, help="With --online: which views.", said="by --data/--cache", choices=(FRESH, STORED)
    )
    crop: tuple[int, int] | None = option(  # (h, w) pixels
        None,
        help=crop_size.HELP,
        label="default: ",
        said=crop_size.SAID,
        legal=_SIZE,
        read=crop_size.parse_crop,
    )
    augment: str | None = option(  # a recipe
        None,
        help="With --data: what fresh views draw, such as 'pad=4,flip', 'rrc,flip,jitter=0.4,mixup=0.2' or "
        "none.",
        said="the dataset's own",
    )
    keep_empty: bool = option(
        False, help="Of objects: train also on images without any box that can be used."
    )
    stream: str = option(
        AUTO,
        help="Where the pixels of stored views come from: auto, what is fastest, or dali, decoded in every "
        "epoch. They are the same.",
        label="default: ",
        choices=(AUTO, DALI),
        free_on_resume=True,
    )
    pixel_memory: int | None = option(  # bytes
        None,
        help="What images that are decoded once may take in memory, such as 2G; 0: decode in every epoch.",
        label="default: ",
        said="2G, at most a quarter of the free memory",
        legal=Legal("a size such as 512M or 2G, or 0", lambda size: 0 <= size <= MOST_BYTES),
        read=read_size,
        free_on_resume=True,
    )

    def check(self) -> None:
        super().check()
        if self.augment is not None and not self.data:
            raise BadOption(
                "--augment without --data: the views of a cache were drawn when it was built",
                where=f"--augment {self.augment}",
                fix="add --data NAME:FOLDER for fresh views, or build the cache with "
                "'kdcache build --augment'",
            )
        if self.data and self.cache:
            raise BadOption(
                "--data and --cache together: the first trains on fresh views, the second on stored ones",
                where=f"--data {self.data} --cache {self.cache}",
                fix="give one of them; '--online --teacher T --data D' is a live teacher on fresh views",
            )
        self._check_fresh()
        self._check_teacher()
        clash = {STORED: "data", FRESH: "cache"}.get(self.views or "")
        if clash and getattr(self, clash):
            raise BadOption(
                f"--views {self.views} and {flag(clash)} exclude each other",
                where=f"--views {self.views} {flag(clash)} {getattr(self, clash)}",
                fix="--views stored needs --cache, --views fresh needs --data",
            )

    @property
    def asks_teacher(self) -> bool:
        """Whether a run with these options reads a teacher's weights."""
        return self.online

    def _check_fresh(self) -> None:
        """Raises BadOption that names all that fresh views need and is not there."""
        if self.views != FRESH or self.data or self.cache:
            return
        absent = ["--data NAME:FOLDER"]
        absent += [] if self.online else ["--online"]
        absent += [] if self.teacher else ["--teacher RUN_OR_NETWORK"]
        more = "" if self.online and self.teacher else "; --data alone trains without a teacher"
        raise BadOption(
            f"--views fresh without {absent[0].partition(' ')[0]}",
            where="--views fresh",
            fix=f"add {' '.join(absent)}{more}",
        )

    def _check_teacher(self) -> None:
        if self.online and not self.teacher:
            raise BadOption(
                "--online without a teacher", where="--online", fix="add --teacher RUN_OR_NETWORK"
            )
        if self.teacher and not self.asks_teacher:
            raise BadOption(
                f"--teacher {self.teacher} without --online: a cached run loads no teacher",
                where=f"--teacher {self.teacher}",
                fix="add --online, or leave --teacher out to read its answers from the cache",
            )
