"""Options of the run folder: its name, what is written into it and how often."""

from dataclasses import dataclass, field

from kdcache.cache.errors import unknown
from kdcache.trainer.folder.option_field import A_COUNT_OF_STEPS, Section, bad, metadata, option

# Those of accelerate, each with the package that it takes; a test compares the names with accelerate's own.
TRACKERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "comet_ml": "comet-ml",
    "aim": "aim",
    "clearml": "clearml",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
}
NO_TRACKER = "none"


@dataclass(frozen=True, kw_only=True)
class FolderOptions(Section):
    """What is kept of a run, and under which name."""

    run: str = field(
        metadata=metadata(
            help="Name of the folder under runs/.", also=("--name",), said="from student and loss"
        )
    )
    eval_every: int | None = option(
        None, help="Steps between validations.", said="only at the end", legal=A_COUNT_OF_STEPS
    )
    save_every: int = option(
        1_000, help="Steps between checkpoints.", legal=A_COUNT_OF_STEPS, free_on_resume=True
    )
    log: str = option(
        "tensorboard",
        help=f"Any of {', '.join(TRACKERS)}; several with commas; {NO_TRACKER}.",
        free_on_resume=True,
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        parts = self.log.replace(" ", "").split(",")
        return tuple(dict.fromkeys(part for part in parts if part not in ("", NO_TRACKER)))

    def check(self) -> None:
        super().check()
        if not self.run or self.run.startswith(".") or "/" in self.run or "\\" in self.run:
            raise bad("run", repr(self.run), "a plain folder name; it is made under runs/")
        for name in self.trackers:
            if name not in TRACKERS:
                raise unknown("tracker", name, (*TRACKERS, NO_TRACKER), where=f"--log {self.log}")
