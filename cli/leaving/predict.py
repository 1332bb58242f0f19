"""`kdtrain predict`: what a run's student says of images, as files that other programs read."""

from pathlib import Path
from typing import Any

import click

from kdcache.cli.shared import home_folder, option, written
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_options import train_option

_HELP = dict(help_option_names=["-h", "--help"])


@click.command("predict", context_settings=_HELP)
@click.argument("run")
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the answers are written into; it must be new.",
)
@option("--overlay", is_flag=True, text="Also write every image with what was said of it drawn on it.")
@option("--skip-bad", is_flag=True, text="Go on without images that cannot be read, and list them.")
@train_option("device")
@train_option("threads")
@click.pass_context
def predict(
    context: click.Context,
    /,
    run: str,
    images: tuple[str, ...],
    out: Path,
    overlay: bool = False,
    skip_bad: bool = False,
    **_: Any,
) -> None:
    """Ask the exported student of RUN about IMAGES: JPEG and PNG files, and folders of them.

    Segmentation: masks/KEY.png, 8 bits with a palette, whose values are the train ids, and classes.csv.
    Classification: predictions.csv. Detection: boxes.json in COCO's form, with scores.

    \b
    kdtrain predict r18-afdcd holiday/ --out masks --overlay
    kdtrain predict gfl-r18-bckd a.jpg b.png --out boxes
    """
    from kdcache.trainer.export.predict import predict_images

    given = {name: value for name, value in written(context).items() if name in ("device", "threads")}
    done = predict_images(
        run, images, home=home_folder(), out=out, overlay=overlay, skip_bad=skip_bad, **given
    )
    what = [*(["masks/"] if done.masks else []), *(["overlays/"] if overlay else []), *done.files]
    terminal = Terminal()
    terminal.say(f"{done.num_images} images: {', '.join(what)} in {done.out}")
    for path in done.skipped:
        terminal.say(f"left out, it cannot be read: {path}")
