"""A sweep's file, and what was typed beside it: nothing is passed over, nothing is guessed."""

from pathlib import Path
from typing import Any

import pytest

from kdcache.cache.errors import BadOption
from kdcache.trainer.bench.definition import Definition, read_definition, read_seeds, split_list
from kdcache.trainer.bench.grid import Cell, Pixels, cells_of, command_of

FILE = """
loss = ["kd", "cwd(tau=4,weight=3)"]
student = ["r18", "mbv2"]
seeds = 2
[options]
steps = 20
lr = [0.1, 0.2]
nesterov = true
"""
STORED = Pixels("camvid-r50-1a2b3c4d", "camvid:/data", {"crop": "64,96"})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_as_it_says(tmp_path: Path) -> None:
    assert read_definition(written(tmp_path, FILE), {}) == Definition(
        name="grid",
        losses=("kd", "cwd(tau=4,weight=3)"),
        students=("r18", "mbv2"),
        seeds=(0, 1),
        options={"steps": 20, "nesterov": True},
        axes={"lr": (0.1, 0.2)},
    )


def test_what_is_typed_wins_and_the_definition_that_is_kept_says_all(tmp_path: Path) -> None:
    typed = {"loss": ["afdcd"], "seeds": [5], "name": "x", "fresh": False, "options": {"lr": 0.5}}
    made = read_definition(written(tmp_path, FILE), typed)
    assert (made.losses, made.seeds, made.name, made.fresh) == (("afdcd",), (5,), "x", False)
    assert made.options == {"steps": 20, "nesterov": True, "lr": 0.5} and made.axes == {}
    assert read_definition(written(tmp_path, made.to_toml()), {}) == made


def test_the_grid_is_every_combination_once_with_none_beside_each_student_seed_and_point(
    tmp_path: Path,
) -> None:
    cells = cells_of(read_definition(written(tmp_path, FILE), {}), [STORED])
    expected = {
        (loss, student, seed, lr, role)
        for loss, role in (
            ("none", "none-fresh"), ("none", "none"), ("kd", "cell"), ("cwd(tau=4,weight=3)", "cell"),
        )
        for student in ("r18", "mbv2")
        for seed in (0, 1)
        for lr in (0.1, 0.2)
    }  # fmt: skip
    told = [(c.loss, c.student, c.seed, c.options["lr"], c.role) for c in cells]
    assert set(told) == expected and len(told) == len(expected) == 32
    assert len({cell.run for cell in cells}) == 32
    first = cells[0]
    assert (first.cache, first.data, first.options["crop"]) == (None, "camvid:/data", "64,96")
    assert all(
        cell.cache == STORED.cache and "crop" not in cell.options for cell in cells if cell.data is None
    )
    assert cells[2].run == "grid-r18-kd-lr=0.1" and cells[-1].run.endswith("-lr=0.2-seed1")


def test_several_caches_have_runs_of_their_own_and_share_those_on_fresh_views() -> None:
    definition = Definition(losses=("kd",), students=("r18",))
    other = Pixels("camvid-r101-5e6f7a8b", "camvid:/data", {"crop": "64,96"})
    cells = cells_of(definition, [STORED, other])
    assert [cell.role for cell in cells] == ["none-fresh", "none", "cell", "none", "cell"]
    assert [cell.run for cell in cells if cell.role == "cell"] == [
        "sweep-r18-kd-1a2b3c4d", "sweep-r18-kd-5e6f7a8b",
    ]  # fmt: skip


def test_a_run_without_a_teacher_is_not_given_one() -> None:
    options: dict[str, Any] = {"online": True, "teacher": "r50", "data": "camvid:/data"}
    fresh = Pixels(None, "camvid:/data")
    none, kd = cells_of(Definition(losses=("kd",), options=options), [fresh])
    assert none.options == {} and kd.options == {"online": True, "teacher": "r50"}
    assert "--online" in command_of(kd) and "--online" not in command_of(none)


def test_names_that_would_be_one_are_told_apart() -> None:
    axes = {"weights": ("a/b", "a_b")}
    cells = cells_of(Definition(losses=("kd",), axes=axes, fresh=False), [STORED])
    assert len({cell.run for cell in cells}) == len(cells) == 4
    long = Definition(losses=("+".join(["cwd(tau=4)"] * 40),), name="x")
    assert all(len(cell.run) <= 160 for cell in cells_of(long, [STORED]))


def test_a_command_can_be_typed_as_it_is_printed() -> None:
    options = {"lr": 1e-7, "aux": False, "nesterov": True, "threads": 4}
    cell = Cell(run="a", student="r18", loss="kd", seed=3, cache="c", options=options)
    assert command_of(cell, resume=True, threads=2) == [
        "kdtrain", "--run", "a", "--student", "r18", "--loss", "kd", "--cache", "c", "--seed", "3",
        "--lr", "1e-07", "--no-aux", "--nesterov", "--threads", "2", "--resume",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "seeds"), [(3, (0, 1, 2)), ("3", (0, 1, 2)), ([4, 0], (4, 0)), ("0,7", (0, 7)), ("5,", (5,))]
)
def test_seeds_are_a_count_or_a_list(value: object, seeds: tuple[int, ...]) -> None:
    assert read_seeds(value, "here") == seeds


def test_commas_in_brackets_split_nothing() -> None:
    assert split_list("kd, cwd(tau=4,weight=3)+kd ,at", "here") == ("kd", "cwd(tau=4,weight=3)+kd", "at")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("los = 1", ["unknown key 'los'", "did you mean 'loss'?"]),
        ('loss = "kd"\nsteps = 3', ["unknown key 'steps'", "below the line [options]"]),
        ('loss = "kd"\n[options]\nstep = 3', ["unknown option 'step'", "did you mean 'steps'?"]),
        ('loss = "kd"\n[options]\nseed = 3', ["'seed' is no option of a sweep's cells", "use seeds"]),
        ('loss = "kd"\n[options]\nsteps = "x"', ["an option is of another type", "steps"]),
        ('loss = "kd"\n[options]\nlr = []', ["'lr' lists nothing"]),
        ('loss = "kd"\n[options]\nlr = [1, 1]', ["'lr' lists a value twice"]),
        ('loss = "kd"\n[options]\nlr = [[1]]', ["'lr' is [1]"]),
        ('loss = "kd"\n[options]\nlr = [0.1, -1.0]', ["--lr cannot be -1.0"]),
        ('loss = "kd"\noptions = 3', ["'options' is no table"]),
        ('loss = "kd"\nfresh = 1', ["'fresh' is 1", "true or false"]),
        ('loss = "kd"\nseeds = 1.5', ["'1.5' says no seeds"]),
        ("loss = 3", ["'loss' is 3", 'loss = ["A", "B"]']),
        ("loss = ", ["the sweep's file cannot be read", "TOML"]),
        ('loss = "kd(")', ["cannot be read"]),
        ('loss = "kd("', ["brackets do not pair up"]),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_what_it_should_say(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    with pytest.raises(BadOption) as refused:
        read_definition(written(tmp_path, text), {})
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_a_grid_of_more_cells_than_anybody_can_train_is_refused() -> None:
    axes = {name: tuple(range(1, 200)) for name in ("steps", "batch_size")}
    with pytest.raises(BadOption, match="the grid has 39601 cells, at most 10000"):
        cells_of(Definition(losses=("kd",), axes=axes), [STORED])


def test_the_command_of_each_cell_has_the_cells_own_seed_student_and_loss(tmp_path: Path) -> None:
    """Three runs of one seed under three names would be an interval of width 0."""
    for cell in cells_of(read_definition(written(tmp_path, FILE), {"seeds": "3,4"}), [STORED]):
        words = command_of(cell)
        told = {name: words[words.index(f"--{name}") + 1] for name in ("seed", "student", "loss", "run")}
        assert told == {"seed": str(cell.seed), "student": cell.student, "loss": cell.loss, "run": cell.run}
