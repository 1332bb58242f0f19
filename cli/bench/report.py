"""`kdtrain report`: the page of an ablation."""

from collections.abc import Sequence
from pathlib import Path

import click

from kdcache.cli.bench.compare import check_chosen, show_table
from kdcache.cli.shared import folder_of, home_folder, option
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_options import train_option
from kdcache.trainer.config import MachineOptions

_HELP = dict(help_option_names=["-h", "--help"])
OUT = Path("report.html")


@click.command(context_settings=_HELP)
@click.argument("runs", nargs=-1)
@option("--sweep", metavar="NAME", text="All cells of this sweep, those that failed or have not begun too.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=OUT,
    help="The file; an older one is replaced. [default: report.html]",
)
@option(
    "--analysis",
    is_flag=True,
    text="Also compare features: their distance to the teacher's, and their self-similarity within patches.",
)
@train_option("threads")
def report(runs: Sequence[str], sweep: str | None, out: Path, analysis: bool, threads: int | None) -> None:
    """One HTML page about several runs that opens without a network: scores with intervals, differences to
    `none`, curves, classes, pictures, what the cache cost and saved, and the commands that repeat it. Without
    RUNS: all runs. Takes plotly: pip install 'kdcache[report]'.

    \b
    kdtrain report
    kdtrain report r18-none r18-kd r18-afdcd --out ablation.html
    kdtrain report --sweep first --analysis
    """
    check_chosen(runs, sweep)
    from kdcache.trainer.bench.page.report import require_plotly, write_report

    require_plotly()
    with folder_of(out):
        table = write_report(
            home_folder(),
            runs,
            sweep,
            out,
            with_analysis=analysis,
            num_threads=MachineOptions.threads if threads is None else threads,
        )
    terminal = Terminal()
    show_table(terminal, table)
    terminal.say(f"written: {out}")
