"""An export judged like the run that it came from: the same judge, images and classes."""

from pathlib import Path

from kdcache.cache.errors import BadOption, NotFinite
from kdcache.cache.files.system import user_path
from kdcache.cache.networks.run_card import other_classes
from kdcache.cache.sources.table import open_source
from kdcache.trainer.config import MachineOptions
from kdcache.trainer.export.exported import open_exported
from kdcache.trainer.folder.home import absolute_spec
from kdcache.trainer.judge.alone import judge_alone
from kdcache.trainer.judge.judge import judge_of
from kdcache.trainer.judge.metrics import no_figures_said
from kdcache.trainer.run import Judged


def evaluate_exported(
    exported: Path,
    *,
    data: str | None,
    split: str,
    with_records: bool = False,
    threads: int = MachineOptions.threads,
) -> Judged:
    """Judge an export on a split, by default of the data that the run was trained on; on the CPU.

    Raises KdError for a folder that is no export or was changed, for data of other classes, for a size of
    images that a graph does not take, and for records of a task that has none.
    """
    MachineOptions(threads=threads)  # raises for what cannot be
    folder = user_path(exported)
    asked = open_exported(folder)
    record = asked.record
    spec = absolute_spec(data) if data else record.data
    source = open_source(spec, split)
    if differ := other_classes(record.class_names, source.class_names):
        raise BadOption(
            f"'{spec}' has {len(source.class_names)} classes, the export {len(record.class_names)}: {differ}",
            where=f"--data {spec}",
            fix="use data of the same classes in the same order",
        )
    counting = judge_of(source.task, source.class_names)
    if with_records and counting.no_records:
        raise BadOption(counting.no_records, where="--json", fix="leave --json out; --out writes the figures")
    metrics = judge_alone(asked, source, input_size=record.crop, device="cpu", num_threads=threads)
    if said := no_figures_said(metrics, "the export"):
        raise NotFinite(
            f"{said}: it has no figures",
            where=str(folder),
            fix=f"export the run again, or judge the run: kdtrain eval {record.run}",
        )
    records = counting.records(metrics, source) if with_records else ()
    return Judged(folder, spec, metrics, f"exported as {record.form} from run {record.run}", records)
