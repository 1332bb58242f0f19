"""A run's student in a form that runs elsewhere, compared with torch before it counts.

Steps: the run's network (the one that `eval` judges: the best, of several students the deployed one) -> the
form's files in a draft folder -> opened again from there, asked about real images of the run's data, compared
-> decoder, model card and record beside them -> the folder gets its name. A graph of free sizes that does not
agree is made again for the one size of the images.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from torch import Tensor

from kdcache.cache.errors import BadOption, Missing, unknown
from kdcache.cache.files.system import user_path
from kdcache.cache.networks.deployed import Deployed
from kdcache.cache.networks.families.library_form import write_smp, write_timm
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, read_run_card
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source, splits
from kdcache.trainer.config import MachineOptions
from kdcache.trainer.export import decode_boxes
from kdcache.trainer.export.compare import BOUND, Difference, compared, real_images
from kdcache.trainer.export.exported import Exported, open_form
from kdcache.trainer.export.graphs import require_onnx, traced, write_onnx, write_pt2
from kdcache.trainer.export.model_card import CARD_NAME, model_card, sizes_said
from kdcache.trainer.export.new_folder import check_new, new_folder
from kdcache.trainer.export.record import FORMAT, ExportRecord, digests, write_record
from kdcache.trainer.folder.home import find_run
from kdcache.trainer.judge.contract import Judge
from kdcache.trainer.judge.judge import judge_of

LIBRARIES = {"timm": write_timm, "smp": write_smp}
GRAPHS = {"onnx": write_onnx, "pt2": write_pt2}
FORMS = (*LIBRARIES, *GRAPHS)
DECODER = "decode.py"
_SPLITS = ("val", "test", "train")  # whose images are compared: the first that is there


class Done(NamedTuple):
    """What was exported."""

    out: Path
    record: ExportRecord
    difference: Difference
    images: str  # which were compared, in words
    sizes: str  # of images that it takes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One student and how it is asked."""

    run_dir: Path
    card: RunCard
    network: Network
    counting: Judge
    form: str
    images: Sequence[Tensor]  # (B, H, W, 3) uint8, of the run's data
    cut_images: Sequence[Tensor]  # one more, of another size; none where sizes are not free


def export_run(run: str, form: str, *, home: Path, out: Path, threads: int = MachineOptions.threads) -> Done:
    """Write the exported student of a run as `form` into the new folder `out`.

    Raises BadOption for a form that the task or the network does not have, for an `out` that is there, and
    for an export that differs from torch; Missing where run or data are not there.
    """
    MachineOptions(threads=threads)  # raises for what cannot be
    if form not in FORMS:
        raise unknown("form", form, FORMS, where=f"--to {form}")
    check_new(out)
    run_dir = find_run(home, run)
    card = read_run_card(run_dir)
    counting = judge_of(card.task, card.class_names)
    _check_form(form, card, counting)
    source = _source_of(card, run_dir)
    network = load_run_network(run_dir).eval()
    counting.meet(network, card.crop)
    free = counting.leaving.whole_images
    images = real_images(source, counting, card.crop, threads, also_cut=free)
    own, cut = (images[:-1], images[-1:]) if free else (images, [])
    job = _Job(
        run_dir=run_dir,
        card=card,
        network=network,
        counting=counting,
        form=form,
        images=own,
        cut_images=cut,
    )
    with new_folder(out) as draft:
        record, difference = _write(job, draft)
        (draft / CARD_NAME).write_text(model_card(run_dir, card, record, counting.leaving, home))
        write_record(draft, record)
    sizes = sizes_said(card, record, counting.leaving)
    return Done(user_path(out), record, difference, f"{card.data}, {source.split}", sizes)


def _check_form(form: str, card: RunCard, counting: Judge) -> None:
    """Raises BadOption before anything is built."""
    if form not in counting.leaving.forms:
        raise BadOption(
            f"a network for {card.task} does not leave as {form}",
            where=f"--to {form}",
            fix=f"choose one of {', '.join(counting.leaving.forms)}",
        )
    if form == "onnx":
        require_onnx()


def _source_of(card: RunCard, run_dir: Path) -> Source:
    """Data of the run, whose images are compared."""
    try:
        there = splits(card.data)
        return open_source(card.data, next(split for split in _SPLITS if split in there))
    except Missing as error:
        raise Missing(
            f"an export is compared with torch on images of the run's data: {error.what}",
            where=error.where,
            fix="put the data back where the run was trained on them",
        ) from error


def _write(job: _Job, draft: Path) -> tuple[ExportRecord, Difference]:
    """The form's files and what is recorded of them. Raises BadOption for what differs from torch."""
    if job.form in LIBRARIES:
        LIBRARIES[job.form](job.network, draft, job.card.class_names, job.card.crop)
        record = _record(job, draft, fixed_px=job.network.fixed_px, least_px=1)
        return _finished(job, draft, record)
    deployed = Deployed(job.network, job.counting.taps, enlarged=job.counting.leaving.whole_images)
    if job.counting.leaving.whole_images:
        for unproved in (False, True):
            with suppress(Exception):  # whatever torch and the runtime raise for operators of a fixed size
                return _graph(job, draft, deployed, None, unproved=unproved)
    return _graph(job, draft, deployed, _one_size(job))


def _graph(
    job: _Job,
    draft: Path,
    deployed: Deployed,
    fixed_px: tuple[int, int] | None,
    *,
    unproved: bool = False,
) -> tuple[ExportRecord, Difference]:
    for old in draft.iterdir():
        old.unlink()
    GRAPHS[job.form](traced(deployed, fixed_px, unproved=unproved), deployed.taps, draft)
    record = _record(job, draft, fixed_px=fixed_px, least_px=deployed.least_px)
    if job.counting.leaving.decoder:
        (draft / DECODER).write_bytes(Path(decode_boxes.__file__).read_bytes())
    return _finished(job, draft, record)


def _one_size(job: _Job) -> tuple[int, int]:
    """That of the first image: the input size of the run where every image is shown at it."""
    return int(job.images[0].shape[1]), int(job.images[0].shape[2])


def _record(job: _Job, draft: Path, *, fixed_px: tuple[int, int] | None, least_px: int) -> ExportRecord:
    network, grid = job.network, job.network.grid
    return ExportRecord(
        format=FORMAT,
        form=job.form,
        run=job.run_dir.name,
        student=job.card.weights_digest,
        task=job.card.task,
        data=job.card.data,
        class_names=job.card.class_names,
        crop=job.card.crop,
        outputs=job.counting.taps,
        fixed_px=fixed_px,
        least_px=least_px,
        stride=network.pad_multiple if job.form in LIBRARIES and network.pad_multiple > 1 else 0,
        grid=None if grid is None else grid.to_dict(),
        difference=0.0,
        files=dict(digests(draft)),
    )


def _finished(job: _Job, draft: Path, record: ExportRecord) -> tuple[ExportRecord, Difference]:
    """Opened again and compared. Raises BadOption where it is not what torch says."""
    run = open_form(draft, job.form, record.stride)
    images = [one for one in job.images if record.fixed_px in (None, tuple(one.shape[1:3]))]
    images += job.cut_images if record.fixed_px is None else ()
    difference = compared(job.network, record.outputs, Exported(draft, record, run), images)
    if not difference.small:
        raise BadOption(
            f"the {job.form} of {job.network.name} does not say what torch says: it differs by "
            f"{difference.absolute:.1e}, more than {BOUND:g} of its largest value {difference.largest:.3g}",
            where=f"--to {job.form}",
            fix="nothing was written; take another form: "
            f"{', '.join(form for form in job.counting.leaving.forms if form != job.form)}",
        )
    return msgspec.structs.replace(record, difference=difference.absolute), difference
