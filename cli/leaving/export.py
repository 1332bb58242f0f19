"""`kdtrain export`: a run's student as a library's own folder or as a graph."""

from pathlib import Path
from typing import Any

import click

from kdcache.cache.errors import size_text
from kdcache.cache.visible import shell_line
from kdcache.cli.shared import home_folder, written
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_options import train_option

_HELP = dict(help_option_names=["-h", "--help"])
_FORMS = ("timm", "smp", "onnx", "pt2")


@click.command("export", context_settings=_HELP)
@click.argument("run")
@click.option("--to", "form", type=click.Choice(_FORMS), required=True, help="Which form it takes.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that it is written into; it must be new.",
)
@train_option("threads")
@click.pass_context
def export(context: click.Context, /, run: str, form: str, out: Path, **_: Any) -> None:
    """Write the exported student of RUN for use without this project, with a model card.

    \b
    timm   classification: timm.create_model('local-dir:DIR', pretrained=True)
    smp    segmentation: segmentation_models_pytorch.from_pretrained('DIR')
    onnx   any task: float RGB of 0..255 in, normalisation inside
    pt2    the same for torch.export.load

    It is compared with torch on images of the run's data; nothing is written where they differ.
    'kdtrain eval --exported DIR' judges it as the run is judged.

    \b
    kdtrain export r18-afdcd --to onnx --out r18-onnx
    """
    from kdcache.trainer.export.export import export_run
    from kdcache.trainer.export.exported import judge_words

    given = {name: value for name, value in written(context).items() if name == "threads"}
    done = export_run(run, form, home=home_folder(), out=out, **given)
    terminal = Terminal()
    files = sorted(path for path in done.out.iterdir())
    total = size_text(sum(path.stat().st_size for path in files))
    terminal.say(f"{done.out}: {', '.join(path.name for path in files)} ({total})")
    terminal.say(
        f"largest difference from torch {done.difference.absolute:.1e}, of values up to "
        f"{done.difference.largest:.3g}, on {done.difference.num_images} images ({done.images})"
    )
    terminal.say(f"sizes of images: {done.sizes}")
    terminal.say("judge it: ", strong=shell_line(judge_words(form, str(done.out))))
