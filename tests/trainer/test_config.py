"""Options: refused with a useful text when they cannot work, kept in config.toml, protected on resume."""

from dataclasses import fields
from pathlib import Path

import pytest

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.views.crop import parse_crop
from kdcache.trainer.config import (
    MachineOptions,
    TrainConfig,
    check_config_seal,
    merge_for_resume,
    read_config,
    write_config,
)
from kdcache.trainer.folder.option_field import spelled
from kdcache.trainer.steps.options import SCHEDULES, RateOptions, parse_milestones


def config(**options: object) -> TrainConfig:
    return TrainConfig(**{"run": "r", **options})  # type: ignore[arg-type]


def test_config_file_gives_the_options_back(tmp_path: Path) -> None:
    written = config(
        data="camvid:/d", crop=(36, 48), aux=False, ema=0.99, epochs=2.5, weights=None, augment="pad=4,flip",
        lr_schedule="multistep", milestones=(0.5, 0.8), lr_drop=0.2, nesterov=True, init="r50",
    )  # fmt: skip
    write_config(tmp_path, written, {"loss": {"terms": [{"weight": 1.0, "preset": None}]}, "cache": None})
    assert read_config(tmp_path) == written


# Of config.toml, as the first version wrote it.
KEYS = """
    run student loss data online teacher teacher_weights views steps epochs batch_size accumulate optimizer lr
    weight_decay momentum nesterov lr_schedule poly_power milestones lr_drop warmup_steps clip ema crop
    augment output_stride weights aux seed amp compile sync_bn eval_every save_every threads device log
     encoder_lr non_finite keep_empty stream rank_timeout
"""


def test_options_stand_in_the_file_in_the_order_of_its_first_version(tmp_path: Path) -> None:
    """Files of earlier runs and of this one can be compared line by line."""
    every = config(
        data="camvid:/d", online=True, teacher="t", teacher_weights="w", views="fresh", epochs=2.5, lr=0.1,
        weight_decay=0.1, clip=1.0, ema=0.9, crop=(36, 48), augment="flip", output_stride=8, weights="none",
        aux=True, sync_bn=True, eval_every=5,
    )  # fmt: skip
    write_config(tmp_path, every, {})
    lines = (tmp_path / "config.toml").read_text().splitlines()
    assert [line.partition(" = ")[0] for line in lines if " = " in line] == KEYS.split()
    assert set(every.to_dict()) == {one.name for one in fields(TrainConfig)}


def test_a_section_is_checked_alone_as_within_a_run() -> None:
    with pytest.raises(BadOption, match="--nesterov without the momentum"):
        RateOptions(optimizer="adamw", nesterov=True)
    with pytest.raises(BadOption, match="--threads cannot be 0"):
        MachineOptions(threads=0)
    assert RateOptions(optimizer="adamw").base_lr == 2e-4 and RateOptions().decay == 1e-4


def test_a_schedule_reads_fields_that_exist_and_no_two_read_the_same() -> None:
    names = [name for schedule in SCHEDULES.values() for name in schedule.reads]
    assert len(set(names)) == len(names) and set(names) <= {one.name for one in fields(RateOptions)}


def test_data_and_cache_together_say_what_each_means() -> None:
    with pytest.raises(BadOption, match="--data and --cache together") as error:
        config(data="camvid:d", cache="c")
    assert "fresh" in error.value.what and "stored" in error.value.what
    assert "--online --teacher T --data D" in error.value.fix


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"online": True}, "--online without a teacher", "--teacher"),
        ({"teacher": "r50"}, "--teacher r50 without --online", "cache"),
        ({"optimizer": "adam"}, "unknown value of --optimizer 'adam'", "did you mean 'adamw'"),
        ({"steps": 0}, "--steps cannot be 0", "above 0"),
        ({"momentum": -1.0}, "--momentum cannot be -1.0", "0 or more"),
        ({"ema": 1.0}, "--ema cannot be 1.0", "between 0 and 1"),
        ({"batch_size": 10, "accumulate": 4}, "--batch-size cannot be 10", "multiple of --accumulate 4"),
        ({"run": "../x"}, "--run cannot be '../x'", "folder name"),
        ({"run": "a/b"}, "--run cannot be 'a/b'", "folder name"),
        (
            {"views": "fresh"},
            "--views fresh without --data",
            "add --data NAME:FOLDER --online --teacher RUN_OR_NETWORK; --data alone",
        ),
        (
            {"views": "fresh", "online": True},
            "--views fresh without --data",
            "add --data NAME:FOLDER --teacher RUN_OR_NETWORK",
        ),
        ({"views": "stored", "data": "camvid:d"}, "--views stored and --data", "--cache"),
        ({"lr_schedule": "multi"}, "unknown value of --lr-schedule 'multi'", "multistep"),
        ({"milestones": (0.5, 1.0)}, "--milestones cannot be 0.5,1", "between 0 and 1"),
        ({"milestones": (0.5, 0.5)}, "--milestones cannot be 0.5,0.5", "rising"),
        ({"milestones": ()}, "--milestones cannot be empty", "0.5,0.75"),
        ({"lr_drop": 0.0}, "--lr-drop cannot be 0.0", "above 0"),
        ({"milestones": (0.5,)}, "--milestones with --lr-schedule poly", "--lr-schedule multistep"),
        ({"lr_schedule": "cosine", "lr_drop": 0.2}, "--lr-drop with --lr-schedule cosine", "leave --lr-drop"),
        ({"lr_schedule": "cosine", "poly_power": 2.0}, "--poly-power with --lr-schedule cosine", "poly"),
        ({"nesterov": True, "optimizer": "adamw"}, "--nesterov without the momentum", "--optimizer sgd"),
        ({"nesterov": True, "momentum": 0.0}, "--nesterov without the momentum", "above 0"),
        ({"init": "r50", "weights": "none"}, "--init and --weights together", "a run's whole student"),
        ({"augment": "flip"}, "--augment without --data", "kdcache build --augment"),
        ({"augment": "flip", "cache": "c"}, "--augment without --data", "--data NAME:FOLDER"),
    ],
)
def test_each_impossible_option_is_named_with_its_remedy(
    options: dict[str, object], what: str, fix: str
) -> None:
    with pytest.raises(BadOption) as error:
        config(**options)
    assert what in error.value.what
    assert fix in error.value.fix


def test_crop_is_height_before_width_or_one_number() -> None:
    assert parse_crop("360,480") == parse_crop("360x480") == (360, 480)
    assert parse_crop("64") == (64, 64)
    with pytest.raises(BadOption, match="--crop cannot be big"):
        parse_crop("big")


def test_a_config_file_of_before_the_schedules_still_resumes(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[options]\nrun = "r"\nsteps = 3\n')
    assert read_config(tmp_path) == config(steps=3, lr_schedule="poly", augment=None, init=None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((8 / 12, 11 / 12), "2/3,11/12"),
        ((0.625, 0.75, 0.875), "0.625,0.75,0.875"),
        ((0.123456789, 0.667), "0.123456789,0.667"),
        ((0.9999999999,), "0.9999999999"),
    ],
)
def test_shares_are_written_short_and_mean_the_same_when_they_are_read(
    value: tuple[float, ...], text: str
) -> None:
    assert spelled(value) == text and parse_milestones(text) == value
    options = RateOptions(lr_schedule="multistep", milestones=value)
    assert SCHEDULES["multistep"].words(options) == f"x 0.1 at {text.replace(',', ', ')} of the run"


def test_milestones_are_shares_or_percent() -> None:
    assert parse_milestones("1/2, 3/4") == (0.5, 0.75)
    for text in ("1/0", "1/x", f"{'9' * 400}/1"):
        with pytest.raises(BadOption, match="--milestones cannot be"):
            parse_milestones(text)
    assert parse_milestones("0.5, 0.75") == parse_milestones("50%,75%") == (0.5, 0.75)
    with pytest.raises(BadOption, match="--milestones cannot be 30,x") as error:
        parse_milestones("30,x")
    assert "shares of the run" in error.value.fix


@pytest.mark.parametrize(
    "change", [{"lr_schedule": "cosine"}, {"augment": "flip"}, {"init": "r50"}, {"nesterov": True}]
)
def test_what_a_run_computes_cannot_change_on_resume(change: dict[str, object]) -> None:
    with pytest.raises(BadOption, match="differs from"):
        merge_for_resume(config(data="camvid:/d"), change, where="runs/r")


def test_resume_with_another_option_is_refused_by_name() -> None:
    stored = config(steps=100, lr=0.1)
    with pytest.raises(
        BadOption, match=r"--steps 200 differs from 100.*learning rate depends on it"
    ) as error:
        merge_for_resume(stored, {"steps": 200}, where="runs/r")
    assert error.value.where == "runs/r" and "--steps" in error.value.fix
    with pytest.raises(BadOption, match="--lr 0.2 differs from 0.1"):
        merge_for_resume(stored, {"steps": 100, "lr": 0.2}, where="runs/r")


def test_resume_may_move_to_other_threads_and_devices() -> None:
    merged = merge_for_resume(config(), {"threads": 3, "device": "cpu", "save_every": 5}, where="")
    assert (merged.threads, merged.device, merged.save_every) == (3, "cpu", 5)


def test_unknown_option_in_a_config_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[options]\nrun = "r"\nstep = 3\n')
    with pytest.raises(BadOption, match="unknown option 'step'") as error:
        read_config(tmp_path)
    assert "did you mean 'steps'" in error.value.fix


def test_resuming_a_run_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no run 'r18'") as error:
        read_config(tmp_path / "r18")
    assert error.value.fix == "runs there: none; train one first"
    for name in ("r18-kd", "mbv2-cwd"):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name, config(), {})
    with pytest.raises(Missing, match="no run 'r18-dk'") as error:
        read_config(tmp_path / "r18-dk")
    assert error.value.fix == "did you mean 'r18-kd'? runs there: mbv2-cwd, r18-kd"


def test_options_that_were_changed_are_read_and_no_run_goes_on_with_them(tmp_path: Path) -> None:
    write_config(tmp_path, config(), {})
    check_config_seal(tmp_path)
    path = tmp_path / "config.toml"
    path.write_text(path.read_text().replace("momentum = 0.9", "momentum = 0.8"))
    assert read_config(tmp_path).momentum == 0.8, "it is for people"
    with pytest.raises(BadOption, match="config.toml is not as the run wrote it") as error:
        check_config_seal(tmp_path)
    assert error.value.where == str(path) and "delete its last line" in error.value.fix
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    check_config_seal(tmp_path)


@pytest.mark.parametrize("options", ["run = 3", "lr = 0.1", 'run = "r"\nsteps = "many"'])
def test_an_option_of_another_kind_is_an_error_in_three_parts(tmp_path: Path, options: str) -> None:
    (tmp_path / "config.toml").write_text(f"[options]\n{options}\n")
    with pytest.raises(BadOption) as error:
        read_config(tmp_path)
    assert "config.toml" in error.value.where


def test_a_mistyped_tracker_is_offered_all_of_them_and_none(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="unknown tracker 'nonee'") as error:
        config(log="nonee")
    assert error.value.fix == (
        "did you mean 'none'? legal: aim, clearml, comet_ml, dvclive, mlflow, none, swanlab, tensorboard, "
        "trackio, wandb"
    )


def test_a_config_file_that_is_not_toml_is_located(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("steps = = 3")
    with pytest.raises(BadOption, match="config.toml cannot be read") as error:
        read_config(tmp_path)
    assert str(tmp_path) in error.value.where


def test_epochs_become_the_fewest_steps_that_see_every_sample() -> None:
    assert config(epochs=2, batch_size=4).with_steps(num_samples=11).steps == 6
    assert config(steps=7).with_steps(num_samples=11).steps == 7
