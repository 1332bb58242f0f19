"""The loop that judges a network on a split: the table of tasks says who counts its answers.

Each valid image goes through the network once, in the view that the task's judge wants to see. Sizes come
from the headers, pixels from the image pipeline that training uses. Every rank judges its own groups of
images, none twice.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, NotFinite
from kdcache.cache.images.feed import Feed, ImageBatch
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.processes.progress import arrived, moved
from kdcache.cache.reader.rows import feed_with_truth, pixel_feed
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.labels import shown_colours
from kdcache.cache.spec import Task
from kdcache.cache.tasks.contract import Truth
from kdcache.cache.tasks.table import load, task_of, task_row
from kdcache.cache.views.view import Row
from kdcache.trainer.judge.contract import Answers, Ask, Judge, JudgedImage
from kdcache.trainer.judge.metrics import Metrics, NoFigures
from kdcache.trainer.judge.unpacked import shown_unpacked, unpacked_batch
from kdcache.trainer.stream.batch import SampleSource
from kdcache.trainer.stream.source_samples import as_samples

Reduce = Callable[[Tensor], Tensor]  # sum over the ranks
_WHOLE = 0  # number of a view that nobody draws


def judge(
    network: nn.Module | Ask,
    source: Source | SampleSource,
    *,
    task: Task,
    device: torch.device | str,
    class_names: Sequence[str],
    input_size: tuple[int, int],
    num_threads: int = 1,
    batch_size: int | None = None,
    amp: torch.dtype | None = None,
    rank: int = 0,
    world: int = 1,
    reduce: Reduce | None = None,
    teacher: nn.Module | Ask | None = None,
) -> Metrics:
    """Metrics of `network`: a Network with the taps that the judge reads, or a function that answers by tap.
    `input_size` is the (height, width) in pixels that the network was made for; a `teacher` is asked about
    the same pixels. With several ranks `reduce` must sum a tensor over them. Answers that are not finite give
    `NoFigures`. Raises BadOption without an image or a reduction, or for a teacher that cannot be asked;
    NotFinite for one whose answers are not; BadSample for a truth outside the classes.
    """
    counting, truth = judge_of(task, class_names), task_of(task).truth
    _check(counting, network, teacher, input_size)
    _check_ranks(rank, world, reduce)
    samples, device = as_samples(source), torch.device(device)
    groups = _groups(counting, samples, batch_size)
    table, own = counting.table(groups[-1].places.stop, device), groups[rank::world]
    bad, indices = torch.zeros(2, dtype=torch.int64, device=device), [group.indices for group in own]
    images = judged_images(samples, indices, counting, truth, input_size, device, num_threads)
    autocast = torch.autocast(device.type, dtype=amp, enabled=amp is not None)
    with closing(images), _asking(network, teacher, counting.taps) as ask, autocast:
        for group, batch in zip(own, images, strict=True):
            answers, teacher_answers = ask(batch.images_BHWC.to(device))
            truth_B = _truth_of(batch, truth, counting, samples).to(device)
            counting.fill(table, group.places, answers, truth_B, teacher_answers)
            moved()
            bad += _not_finite_of((answers, teacher_answers), counting.taps, truth_B)
    total, bad = _over_ranks(table, bad, reduce)
    return _figures(counting, total, bad, _judged(samples, groups, counting, input_size), teacher is not None)


def _over_ranks(table: Tensor, bad: Tensor, reduce: Reduce | None) -> tuple[Tensor, Tensor]:
    arrived()  # what this rank waits for now, it may wait for
    return (table, bad) if reduce is None else (reduce(table), reduce(bad))


def _check(
    counting: Judge, network: nn.Module | Ask, teacher: nn.Module | Ask | None, input_size: tuple[int, int]
) -> None:
    counting.meet(network, input_size)
    _check_teacher(counting, teacher)


def _not_finite_of(of_both: Sequence[Answers | None], taps: Sequence[str], truth_B: Tensor) -> Tensor:
    """(2,) int64: images of the batch with answers that are not finite, of the student and of the teacher."""
    return torch.stack([_not_finite(answers, taps, truth_B) for answers in of_both])


def _figures(
    counting: Judge, total: Tensor, bad: Tensor, judged: Iterable[JudgedImage], with_teacher: bool
) -> Metrics:
    """Of a full table; `bad` are the images that network and teacher do not answer. Raises NotFinite."""
    of_network, of_teacher = bad.tolist()
    _refuse_teacher(of_teacher)
    counted = total.nan_to_num(0.0, 0.0, 0.0) if of_network else total
    metrics = counting.metrics(counted.cpu(), judged, with_teacher=with_teacher)
    return NoFigures(metrics, of_network) if of_network else metrics


def drawing_judge(source: Source) -> Judge:
    """The judge of a source's task, whose pictures have the colours of the source's classes."""
    counting = judge_of(source.task, source.class_names)
    counting.colours = shown_colours(source.describe())
    return counting


def judge_of(task: Task, class_names: Sequence[str]) -> Judge:
    """The judge of a task, for networks of these classes. Raises BadOption for an unknown task."""
    made: Judge = load(task_row(task).judge)(class_names)
    return made


def judged_images(
    samples: SampleSource,
    groups: Sequence[Sequence[int]],
    counting: Judge,
    truth: Truth | None,
    input_size: tuple[int, int],
    device: torch.device,
    num_threads: int,
) -> Generator[ImageBatch, None, None]:
    """The images of each group in the view to judge, with what is known of them; with `truth` None nothing
    is. Close it: it has threads."""

    def rows_of(number: int) -> list[Row]:
        geometries = [counting.geometry(samples.size(i), input_size) for i in groups[number]]
        return [Row(i, _WHOLE, geometry) for i, geometry in zip(groups[number], geometries, strict=True)]

    def feed(number: int) -> Feed | None:
        if number >= len(groups):
            return None
        rows = rows_of(number)
        return pixel_feed(samples, rows) if truth is None else feed_with_truth(samples, rows, truth)

    if not groups:
        return
    if shown_unpacked(samples, (row for number in range(len(groups)) for row in rows_of(number))):
        for number in range(len(groups)):
            yield unpacked_batch(samples, rows_of(number), truth, device)
        return
    pipeline = ImagePipeline(
        feed,
        batch_size=max(len(group) for group in groups),
        with_maps=truth is not None and truth.rides,
        num_threads=num_threads,
        device_id=_device_number(device),
        name_of=lambda number, row: samples.key(groups[number][row]),
    )
    try:
        yield from pipeline.run()
    finally:
        pipeline.close()


@contextmanager
def evaluating(network: nn.Module | Ask, taps: tuple[str, ...]) -> Iterator[Ask]:
    """`network` as images -> answers by tap, in evaluation mode, without gradient; its mode is restored."""
    if not isinstance(network, nn.Module):
        with torch.no_grad():
            yield network
        return
    modes = [(module, module.training) for module in network.modules()]  # some may be frozen on purpose
    network.eval()
    try:
        with torch.no_grad():
            yield lambda images_BHWC: network(images_BHWC, taps)
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _asking(
    network: nn.Module | Ask, teacher: nn.Module | Ask | None, taps: tuple[str, ...]
) -> Iterator[Callable[[Tensor], tuple[Answers, Answers | None]]]:
    """Images -> what the network says of them, and what the teacher does where there is one."""
    with ExitStack() as stack:
        ask = stack.enter_context(evaluating(network, taps))
        ask_teacher = None if teacher is None else stack.enter_context(evaluating(teacher, taps))
        yield lambda images_BHWC: (
            ask(images_BHWC),
            None if ask_teacher is None else ask_teacher(images_BHWC),
        )


class _Group(NamedTuple):
    """Images that go through the network together."""

    indices: list[int]  # of the samples
    places: slice  # of the images among all that are judged, by whatever rank


def _groups(counting: Judge, samples: SampleSource, batch_size: int | None) -> list[_Group]:
    """All groups of all ranks, at least one."""
    valid = _valid_samples(samples)
    indices = counting.groups(valid, batch_size or counting.batch_size, samples.size)
    ends = accumulate(len(group) for group in indices)
    return [_Group(group, slice(end - len(group), end)) for group, end in zip(indices, ends, strict=True)]


def _judged(
    samples: SampleSource, groups: Sequence[_Group], counting: Judge, input_size: tuple[int, int]
) -> Iterator[JudgedImage]:
    """Every image of the table, whichever rank judged it."""
    for index in (index for group in groups for index in group.indices):
        size = samples.size(index)
        yield JudgedImage(index, size, counting.geometry(size, input_size), samples.truth(index))


def _truth_of(batch: ImageBatch, truth: Truth, counting: Judge, samples: SampleSource) -> Tensor:
    """The truth of a batch, as `Truth.collate` gives it, its classes known to the network."""
    collated, _ = truth.collate(batch.feed.truths, batch.maps_BHW)
    counting.check_truth(collated, lambda row: samples.key(batch.feed.rows[row].sample))
    return collated


def _valid_samples(samples: SampleSource) -> list[int]:
    """Indices of the samples that can be used. Raises BadOption when there are none."""
    invalid = set(samples.invalid.tolist())
    valid = [i for i in range(samples.num_samples) if i not in invalid]
    if not valid:
        raise BadOption(
            f"nothing to evaluate: {samples.num_samples} images, none of them valid",
            where="evaluation",
            fix="choose a split that holds images",
        )
    return valid


def _check_ranks(rank: int, world: int, reduce: Reduce | None) -> None:
    """Raises BadOption for several ranks without a reduction."""
    if world > 1 and reduce is None:
        raise BadOption(
            f"rank {rank} of {world} would report its own share only",
            where="evaluation",
            fix="pass a `reduce` that sums a tensor over ranks",
        )


def _check_teacher(counting: Judge, teacher: nn.Module | Ask | None) -> None:
    if teacher is not None and counting.no_teacher:
        raise BadOption(counting.no_teacher, where="--teacher", fix="leave --teacher out")


def _not_finite(answers: Answers | None, taps: Sequence[str], truth: Tensor) -> Tensor:
    """For how many of these images something that a judge reads is infinite or not a number; on the device of
    their truth, so that nothing waits for it."""
    bad_B = torch.zeros(len(truth), dtype=torch.bool, device=truth.device)
    for tap in taps if answers is not None else ():
        bad_B |= ~answers[tap].isfinite().flatten(1).all(1)  # type: ignore[index]
    return bad_B.sum()


def _refuse_teacher(not_finite: int) -> None:
    """Raises NotFinite: nobody can agree with such answers."""
    if not_finite:
        raise NotFinite(
            f"the teacher answers infinity or NaN for {not_finite} images",
            where="--teacher",
            fix="name another teacher or other --teacher-weights, or leave --teacher out",
        )


def _device_number(device: torch.device) -> int | None:
    """The pipeline's device for a torch device: a CUDA index, or None for the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index
