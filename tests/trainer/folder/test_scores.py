"""Scores kept with a run: those of its student and of no other, and none that somebody changed."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from written_runs import network, write_run

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.networks.run_card import read_run_card, save_run_network
from kdcache.trainer.folder.scores import read_scores, scores_path, write_scores

JUDGED = {"data": "folder:/d", "split": "test", "miou": 0.5, "per_class_iou": {"sky": None}, "num_images": 2}


def test_what_was_judged_is_read_again_and_each_split_for_itself(tmp_path: Path) -> None:
    run = write_run(tmp_path, "r", 0.4)
    write_scores(run, "test", JUDGED)
    assert read_scores(run, "test") == JUDGED
    assert read_scores(run, "val") is None


def test_scores_of_a_student_that_is_no_longer_the_exported_one_are_none(tmp_path: Path) -> None:
    run = write_run(tmp_path, "r", 0.4)
    write_scores(run, "test", JUDGED)
    other = deepcopy(network())
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    save_run_network(run, other, read_run_card(run))
    assert read_scores(run, "test") is None
    write_scores(run, "test", JUDGED)
    assert read_scores(run, "test") == JUDGED


def test_a_changed_figure_is_an_error_that_says_how_to_judge_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, "r", 0.4)
    write_scores(run, "test", JUDGED)
    path = scores_path(run, "test")
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.raises(BadCache, match="scores on test cannot be read") as error:
        read_scores(run, "test")
    assert error.value.where == str(path)
    assert error.value.fix == "judge the run again: kdtrain eval r --split test"


def test_a_file_of_another_kind_is_no_score(tmp_path: Path) -> None:
    run = write_run(tmp_path, "r", 0.4)
    (run / "scores").mkdir()
    scores_path(run, "test").write_text('{"judged": {"miou": 1.0}}')
    with pytest.raises(BadCache, match="not the scores of format 1"):
        read_scores(run, "test")


def test_a_split_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="'../x' is no split") as error:
        scores_path(tmp_path, "../x")
    assert (error.value.where, error.value.fix) == ("--split ../x", "use val, test or train")
