"""Fixes that name what is there: the nearest run, the network that weights fit, the option of the command."""

import io
from pathlib import Path

import pytest
import torch

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.names import check_teacher
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.trust import consent
from kdcache.cli.terminal import Terminal

LONG = "ablation-" + "-".join(f"part{number}" for number in range(12))


def test_a_mistyped_teacher_names_the_nearest_run(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    with pytest.raises(BadOption, match="unknown network 'teachr'") as caught:
        check_teacher("teachr", None, tmp_path, "--teacher")
    assert caught.value.fix.startswith("did you mean 'teacher'? forms: ")
    with pytest.raises(BadOption) as caught:
        check_teacher("resnet5x6", "classification", tmp_path, "--teacher")
    assert "did you mean 'resnet56'?" in caught.value.fix and caught.value.fix.count("did you mean") == 1


@pytest.mark.parametrize(("saved", "asked"), [("resnet20a", "resnet20"), ("resnet20", "resnet20a")])
def test_weights_of_the_other_shortcuts_name_their_network(tmp_path: Path, saved: str, asked: str) -> None:
    network = build_network(saved, task="classification", num_classes=3)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(BadWeights, match=f"weights do not fit {asked}") as caught:
        build_network(asked, task="classification", num_classes=3, weights=str(path))
    assert f"name '{saved}', which these weights fit" in caught.value.fix
    assert build_network(saved, task="classification", num_classes=3, weights=str(path)).trained_head


@pytest.mark.parametrize(("command", "flag"), [("kdtrain", "--teacher-weights"), ("kdcache", "--weights")])
def test_a_teacher_without_weights_names_the_option_of_the_command(
    tmp_path: Path, command: str, flag: str
) -> None:
    with consent((), (command, "x")), pytest.raises(BadOption, match="nobody has trained") as caught:
        resolve_teacher("resnet56a", tmp_path, task="classification", num_classes=3)
    assert f"with {flag} FILE;" in caught.value.fix


def listed(*, live: bool, last: str = "seed") -> list[str]:
    out = io.StringIO()
    terminal = Terminal(file=out, width=80, live=live)
    terminal.list_rows(("run", "loss", last), [(LONG, "kd", "0"), ("b", "afdcd", "11")], right=("seed",))
    return out.getvalue().splitlines()


def test_names_of_any_length_stay_in_one_piece() -> None:
    piped = [line.rstrip() for line in listed(live=False)]
    assert piped[1] == f"{LONG}  kd        0" and piped[2].split() == ["b", "afdcd", "11"] and len(piped) == 3
    assert len(piped[2]) == len(piped[1]), "aligned"
    narrow = listed(live=True)
    assert LONG in narrow[0] and narrow[1] == "  loss  kd" and narrow[2] == "  seed  0"


def test_a_list_has_no_spaces_behind_its_lines_and_its_titles_are_aligned() -> None:
    piped = listed(live=False, last="of a seed")
    assert [line for line in piped if line != line.rstrip()] == [] and piped[1].endswith("kd     0")
    assert listed(live=True, last="of a seed")[1:3] == ["  loss       kd", "  of a seed  0"]
