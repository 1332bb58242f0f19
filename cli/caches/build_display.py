"""How a build talks to a person: what it will cost, how fast it goes, when it ends."""

import time
from collections.abc import Callable, Sequence

from kdcache.cache.build.build import BuildEvents
from kdcache.cache.build.plan import Plan
from kdcache.cache.build.predict import Prediction
from kdcache.cache.build.repair import Repaired, Repairing
from kdcache.cache.build.samples.assign import Assignment
from kdcache.cache.build.samples.survey import Survey
from kdcache.cache.errors import size_text
from kdcache.cache.record.advice import advised
from kdcache.cli.caches.loss_fit import Fitting
from kdcache.cli.caches.show_table import view_title
from kdcache.cli.terminal import Terminal

FIRST_ESTIMATE_ROWS = 20  # rows after which the time left means something
MUCH_PADDING = 0.5  # of a canvas
LISTED_KEYS = 10  # of what changed
PLAIN_EVERY_S = 60.0  # a log file gets a line this often instead of a bar


class BuildDisplay:
    """Progress bar on a terminal, plain lines elsewhere. Use as a context manager around `build_cache`."""

    def __init__(
        self,
        terminal: Terminal,
        look: Callable[[Plan], str] = lambda plan: "",
        *,
        fits: object = None,
        threads: str = "",
    ) -> None:
        """`look` says how good a teacher is, before a cache of it is begun; `fits` is the options' own check
        of losses, which knows what they need once the plan is made; `threads` says how cores are shared."""
        self._threads = threads
        self.terminal, self._look, self._fits = terminal, look, fits
        self._bar = terminal.bar("", "rate")
        self._total = self._done = self._warm = 0  # rows; those of the first batch pay for warming up
        self._last_line_s = self._start_s = 0.0
        self._besides = ""  # what a repair has said already
        self._samples: int | None = None
        self._targets: int | None = None

    def __enter__(self) -> "BuildDisplay":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def events(self) -> BuildEvents:
        return BuildEvents(
            repaired=self.repaired,
            surveyed=self.surveyed,
            repairing=self.repairing,
            planned=self.planned,
            packed=self.packed,
            computed=self.computed,
            skipped=self.skipped,
        )

    def repaired(self, repaired: Repaired) -> None:
        """What could not be put back, which the data may not have any more."""
        if repaired.lost:
            blocks = ", ".join(map(str, sorted(repaired.lost)))
            self.terminal.say(
                f"could not be put back: {repaired.lost_samples} samples of the lost blocks {blocks}; those "
                "that the data still has are made anew, as they are now",
            )

    def surveyed(self, survey: Survey) -> None:
        """What the source no longer has as the cache has it."""
        listed = (
            ("image changed", survey.images),
            ("label changed", survey.labels),
            ("no longer in the data", survey.gone),
            ("shows one of these", survey.mixed),
        )
        for title, keys in listed:
            if keys:
                more = f" and {len(keys) - LISTED_KEYS} more" if len(keys) > LISTED_KEYS else ""
                self.terminal.say(
                    f"{title}: {len(keys)} ({', '.join(keys[:LISTED_KEYS])}{more})",
                )
        if survey.differs and not survey.renewed:
            advice = advised("the cache keeps them as they were; renew it with: kdcache build --update")
            self.terminal.say(advice)

    def repairing(self, repairing: Repairing) -> None:
        """What is written before it is known what else is to do."""
        self._besides = "besides, "
        if repairing.sample_bytes:
            self.terminal.say(f"to put back {size_text(repairing.sample_bytes)} of samples")
        if repairing.target_bytes:
            self.terminal.say(
                f"to put back {size_text(repairing.target_bytes)} of targets ({repairing.rows} teacher rows)"
            )
            self._total += repairing.rows
            self._targets = self._bar.add_task("repairs", total=repairing.rows or None)

    def planned(self, plan: Plan, prediction: Prediction, assignment: Assignment) -> None:
        m = plan.manifest
        say = self.terminal.say
        say(plan.choice)
        say(f"cache    {plan.root}" + ("  (exists: continuing)" if plan.existed else ""))
        say(
            f"samples  {len(plan.source.keys)} of {m.data['name']} split '{m.data['split']}', shards of "
            f"{m.shard_samples}"
        )
        for note in plan.source.notes:
            say(f"         {note}")
        say(f"views    {', '.join(view_title(v) for v in m.views)}")
        for tap in m.taps:
            spec = tap.spec(*(m.views[0].crop or m.crop))
            say(f"tap      {tap.name}: {'x'.join(map(str, spec.shape))} {tap.codec}")
        for kept in m.kept:
            spec = kept.spec(*(m.views[0].crop or m.crop))
            say(f"keep     {kept.name}: {'x'.join(map(str, spec.shape))} {kept.codec}")
        for note in self._fits.notes if isinstance(self._fits, Fitting) else ():
            say(f"loss     {note}")
        kept_text = f", {prediction.kept_rows} of pixels" if prediction.kept_rows else ""
        say(
            f"{self._besides}to write {size_text(prediction.target_bytes)} of targets "
            f"({prediction.rows} teacher rows{kept_text}), about "
            f"{size_text(prediction.sample_bytes)} of samples; {size_text(prediction.free_bytes)} free; "
            f"at most {size_text(prediction.flight_bytes)} in memory in flight",
        )
        if prediction.rows:
            size = f"batches of {m.batch_size}" if m.batch_size else "batches as before"
            say(f"forward  {size}, {m.memory_format}; threads: {self._threads or 'as they are'}")
        self._say_padding(prediction.padding)
        if not plan.existed and (said := self._look(plan)):
            say(f"teacher  {said}")
        rows = prediction.rows + prediction.kept_rows
        self._total += rows
        packing = sum(len(keys) for keys in assignment.to_pack.values())
        self._samples = self._bar.add_task("samples", total=packing or None, shown=bool(packing))
        self._targets = self._bar.add_task("targets", total=rows or None, shown=bool(rows))

    def _say_padding(self, share: float) -> None:
        if share > MUCH_PADDING:
            self.terminal.say(
                f"{share:.0%} of the canvas is padding, on average: a --crop of the images' shape shows as "
                "much and costs the teacher less",
            )

    def packed(self, samples: int) -> None:
        if self._samples is not None:
            self._bar.update(self._samples, advance=samples)

    def computed(self, rows: int) -> None:
        now_s = time.monotonic()
        if not self._start_s:
            self._start_s, self._warm = now_s, rows  # rates count from here
        self._done += rows
        elapsed_s = now_s - self._start_s
        rate_hz = (self._done - self._warm) / elapsed_s if elapsed_s > 0 else 0.0
        shown = f"{rate_hz:.1f} rows/s" if rate_hz and self._done - self._warm >= FIRST_ESTIMATE_ROWS else ""
        if self._targets is not None:
            self._bar.update(self._targets, advance=rows, said=shown)
        if not self.terminal.is_live and shown and now_s - self._last_line_s > PLAIN_EVERY_S:
            self._last_line_s = now_s
            left_s = (
                max(0, self._total - self._done) / rate_hz
            )  # damage may leave more to do than was planned
            self.terminal.say(f"{self._done}/{self._total} rows, {shown}, {left_s:.0f} s left")

    def skipped(self, keys: Sequence[str]) -> None:
        self.terminal.say(
            f"skipped {len(keys)} bad samples, their rows are marked invalid: {', '.join(keys)}",
        )
