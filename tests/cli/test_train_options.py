"""The options of training on the command line: every field of a run's options once, and no wait for torch."""

import subprocess
import sys
from dataclasses import fields

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.cli.training.train_options import panels, typed
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.option_field import about, flag, help_text, option
from kdcache.trainer.steps.options import OPTIMIZERS


def test_every_option_of_a_run_stands_in_one_panel_of_the_help() -> None:
    shown = [name for _, flags in panels() for name in flags]
    assert sorted(shown) == sorted(flag(one.name) for one in fields(TrainConfig))


def test_click_knows_each_option_by_the_name_of_its_field_and_offers_its_choices() -> None:
    offered = {p.name: p for p in kdtrain.params}
    for one in fields(TrainConfig):
        choices = tuple(getattr(offered[one.name].type, "choices", ()))
        assert choices == about(one).choices, one.name


def test_the_default_that_depends_on_the_optimizer_is_said_for_each() -> None:
    (lr,) = [one for one in fields(TrainConfig) if one.name == "lr"]
    assert help_text(lr) == "[0.02 for sgd, 0.0002 for adamw]"
    assert [TrainConfig(run="r", optimizer=name).base_lr for name in OPTIMIZERS] == [0.02, 2e-4]


def test_texts_that_click_leaves_alone_are_read_as_their_section_says() -> None:
    given = {"crop": "36,48", "milestones": "50%,75%", "run": "r", "dry_run": True}
    assert typed(given) == {"crop": (36, 48), "milestones": (0.5, 0.75), "run": "r", "dry_run": True}


def test_an_option_says_its_default_unless_there_is_none() -> None:
    said = {
        option(3, help="Threads.", label="default: "): "Threads. [default: 3]",
        option((0.5, 0.75)): "[0.5,0.75]",
        option(None, help="A run."): "A run.",
        option(False, help="On."): "On.",
        option(None, said="the only one"): "[the only one]",
    }
    assert {help_text(one): text for one, text in said.items()} == {text: text for text in said.values()}


def test_help_of_kdcache_asks_the_tasks_for_their_defaults_without_loading_torch() -> None:
    (taps,) = [p for p in kdcache.commands["build"].params if p.name == "taps"]
    assert "[default: stage4, logits; classification: embedding, logits; detection: cls, box]" in getattr(
        taps, "help", ""
    )
    code = "import sys, kdcache.cli.kdcache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
