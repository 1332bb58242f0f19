"""What an export says to people: README.md, beside its files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcache.cache.errors import KdError
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.networks.run_card import RunCard
from kdcache.cache.record.find import caches_dir, find_cache
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.table import data_word
from kdcache.cache.visible import shell_line, visible
from kdcache.trainer.config import TrainConfig, read_config
from kdcache.trainer.export.exported import judge_words
from kdcache.trainer.export.record import ExportRecord
from kdcache.trainer.folder.environment import begun_stream
from kdcache.trainer.folder.scores import read_scores
from kdcache.trainer.judge.contract import Leaving
from kdcache.trainer.judge.judge import judge_of
from kdcache.trainer.judge.metrics import shown

CARD_NAME = "README.md"
CONTENTS_CHARS = 16  # of the digest over all that a run read of its cache
_SCORED = ("val", "test")
_OPENED = {
    "timm": "import timm\n\nmodel = timm.create_model('local-dir:DIR', pretrained=True).eval()",
    "smp": "import segmentation_models_pytorch as smp\n\nmodel = smp.from_pretrained('DIR').eval()",
    "onnx": "import onnxruntime\n\nsession = onnxruntime.InferenceSession('DIR/model.onnx')\n"
    "values = session.run(None, {'images': images})  # float32 RGB of 0..255, (batch, 3, height, width)",
    "pt2": "import torch\n\nmodel = torch.export.load('DIR/model.pt2').module()\n"
    "values = model(images)  # float32 RGB of 0..255, (batch, 3, height, width)",
}
_INPUT = {
    "timm": "normalised RGB; mean and std stand in `config.json`, `pretrained_cfg`",
    "smp": "normalised RGB, sides padded to a multiple of {stride}; mean and std stand in `config.json`, "
    "`_kdcache`",
    "onnx": "float32 RGB of 0..255, normalisation is inside",
    "pt2": "float32 RGB of 0..255, normalisation is inside",
}


def model_card(run_dir: Path, card: RunCard, record: ExportRecord, leaving: Leaving, home: Path) -> str:
    """Markdown: how it is opened, what it answers, what it was trained on and by whom, scores, limits."""
    config = read_config(run_dir)
    given = ((name, _cell(value)) for name, value in _training(config, run_dir, card, home))
    table = "\n".join(f"| {name} | {text} |" for name, text in (*_network(card, record, leaving), *given))
    return "\n".join(
        [
            f"# {_cell(run_dir.name)}\n",
            f"{_cell(card.config.name)}, a student for {card.task}, exported as {record.form} by kdcache.\n",
            f"```python\n{_OPENED[record.form]}\n```\n",
            f"| | |\n|---|---|\n{table}\n",
            f"Classes: {', '.join(f'{n} {_cell(name)}' for n, name in enumerate(card.class_names))}\n",
            *_scores(run_dir, config, card),
            *_limits(record, config),
            f"Judge it again: `{shell_line(judge_words(record.form, 'DIR'))}`\n",
        ]
    )


def _network(card: RunCard, record: ExportRecord, leaving: Leaving) -> list[tuple[str, str]]:
    """In Markdown of our own, with spans of code."""
    taken = _INPUT[record.form].format(stride=record.stride)
    answers = leaving.answers
    if record.form == "smp":
        answers = "logits (batch, classes, height, width) at the size of the padded input"
    return [
        ("input", f"{taken}; {sizes_said(card, record, leaving)}"),
        ("answer", f"{answers} ({', '.join(record.outputs)})"),
        ("student", f"SHA-256 {record.student}"),
    ]


def sizes_said(card: RunCard, record: ExportRecord, leaving: Leaving) -> str:
    """Which images it takes, in words."""
    if record.fixed_px is not None:
        return f"{record.fixed_px[0]}x{record.fixed_px[1]} pixels (height x width), any batch"
    if leaving.whole_images and record.least_px == 1:
        return "any size, any batch"
    if leaving.whole_images:
        return f"any size from {record.least_px} pixels a side on, any batch"
    return f"made for {card.crop[0]}x{card.crop[1]} pixels (height x width), any batch"


def _training(config: TrainConfig, run_dir: Path, card: RunCard, home: Path) -> list[tuple[str, str]]:
    stream = begun_stream(run_dir) or {}
    entries = stream.get("entries")
    rows = [
        ("data", data_word(card.data) + ", split train"),
        ("loss", config.loss),
        ("teacher", _teacher(config, home)),
        ("seed, steps, batch", f"{config.seed}, {config.steps}, {config.batch_size}"),
    ]
    if isinstance(entries, Mapping) and entries:
        name = str(entries.get("cache", config.cache))
        rows.append(("cache", f"{name}, contents {digest_of(dict(entries), CONTENTS_CHARS)}"))
    return rows


def _teacher(config: TrainConfig, home: Path) -> str:
    """What taught it; a cache that is not there any more is known by its name."""
    if config.teacher:
        return config.teacher
    if config.data or config.loss == "none":
        return "none"
    try:
        return read_manifest(find_cache(config.cache, caches_dir(home))).teacher_origin
    except KdError:
        return f"that of the cache {config.cache}"


def _scores(run_dir: Path, config: TrainConfig, card: RunCard) -> list[str]:
    """Of the splits that were judged."""
    judged = {split: read_scores(run_dir, split) for split in _SCORED}
    lines = [
        f"| {split} | {config.seed} | {scores['num_images']} | {_figures(scores)} |"
        for split, scores in judged.items()
        if scores is not None
    ]
    if not lines:
        name = judge_of(card.task, card.class_names).score_name
        best = card.metrics.get(f"best/{name}")
        known = "" if best is None else f"{name} {shown(name, best)} on val, which chose these weights; "
        return [f"Scores: {known}not judged apart yet (`kdtrain eval` keeps them with the run).\n"]
    return ["| split | seed | images | scores |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"]


def _figures(scores: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {shown(name, value)}" for name, value in scores.items() if isinstance(value, float)
    )


def _limits(record: ExportRecord, config: TrainConfig) -> list[str]:
    lines = [
        "It knows the classes above and no others, and images like those of its data; nothing says how it "
        "does on others.",
        f"The scores are of one run (seed {config.seed}): another seed gives other ones.",
        f"On images of its data it differs from torch by {record.difference:.1e} at most.",
        "Photographs are read as they are stored: a rotation in EXIF is not applied.",
    ]
    return ["Limits:\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"]


def _cell(text: str) -> str:
    """What came from data or a command line, in a cell of a table: shown, and no Markdown of its own. The `_`
    inside a word means nothing there and stays, for those who read the file as it is."""
    escaped = visible(text).replace("\\", "\\\\")
    for character in "|`*<>[]":
        escaped = escaped.replace(character, f"\\{character}")
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)
