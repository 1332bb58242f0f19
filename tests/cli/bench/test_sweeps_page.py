"""The examples of docs/sweeps.md are sweeps."""

import re
from pathlib import Path

from sweep_home import SWEEP, typed

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench.definition import read_definition
from kdcache.trainer.bench.grid import Pixels, cells_of

PAGE = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text()


def test_the_file_of_the_page_is_the_grid_that_the_page_says(tmp_path: Path) -> None:
    match = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    path = tmp_path / "ablation.toml"
    path.write_text(match[1])
    definition = read_definition(path, {})
    cells = cells_of(definition, [Pixels("c", "camvid:/data")])
    assert len(cells) == 2 * 3 * 2 * (3 + 2), "students x seeds x rates x (losses and two without a teacher)"
    grown = cells_of(read_definition(path, {"seeds": [0, 1, 2, 3, 4]}), [Pixels("c", "camvid:/data")])
    assert {cell.run for cell in cells} < {cell.run for cell in grown}
    (called,) = re.findall(r"# runs: (\S+), of seed 0 without it", match[1])
    assert {called, called.removesuffix("-seed1")} < {cell.run for cell in cells}


def test_the_first_commands_of_the_page_plan_what_they_say(home: Path) -> None:
    line = next(line for line in PAGE.splitlines() if line.strip().startswith("kdtrain sweep"))
    words = line.split()[2:]
    assert words[-1] == "--dry-run"
    planned = typed(*SWEEP[:3], *SWEEP[5:], *words[:2], *words[4:])  # the students of a tiny home
    assert planned.exit_code == 0, planned.output
    assert "3 losses x 1 student x 3 seeds: 9 runs" in planned.output


def test_a_file_without_a_name_names_its_runs_and_looking_commands_speak_json(tmp_path: Path) -> None:
    path = tmp_path / "lr of r18.toml"
    path.write_text('loss = ["kd"]\n')
    assert read_definition(path, {}).name == "lr_of_r18"
    looking = PAGE.partition("## Looking, and cleaning up")[2]
    assert "All take `--json`." in looking
    for program, word in set(re.findall(r"^ {4}(kdtrain|kdcache) (\w+)", looking, re.MULTILINE)):
        command = {"kdtrain": kdtrain, "kdcache": kdcache}[program].commands[word]
        assert "--json" in {flag for one in command.params for flag in one.opts}, f"{program} {word}"
