"""The examples of docs/sweeps.md are sweeps."""

import re
from pathlib import Path

from sweep_home import SWEEP, typed

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
    assert any(cell.run == "ablation-r18-kd-lr=0.01-seed1" for cell in cells)


def test_the_first_commands_of_the_page_plan_what_they_say(home: Path) -> None:
    line = next(line for line in PAGE.splitlines() if line.strip().startswith("kdtrain sweep"))
    words = line.split()[2:]
    assert words[-1] == "--dry-run"
    planned = typed(*SWEEP[:3], *SWEEP[5:], *words[:2], *words[4:])  # the students of a tiny home
    assert planned.exit_code == 0, planned.output
    assert "3 losses x 1 student x 3 seeds: 9 runs" in planned.output
