"""Adapters of golden files on cases that no stored file has, with values that follow from a stored one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_case import TOLERANCE, Case, ClassificationCase
from golden_check import check_case
from golden_files import ADAPTERS, files_of, method_of
from torch.nn import functional

STORED = Path(__file__).parents[1] / "golden"
BOTH = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def case_of(method: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and settings of a stored file's case 0."""
    with np.load(STORED / f"{method}.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive if key.startswith("c0.")}
    return arrays, json.loads(str(arrays["c0.meta"]))


@BOTH
def test_dkd_is_compared_before_its_warm_up_and_the_total_after_it(dtype: torch.dtype) -> None:
    arrays, meta = case_of("classification/dkd")
    factor = 5 / meta["warmup"]
    arrays["c0.meta"] = np.array(json.dumps({**meta, "epoch": 5}))
    logits, labels = arrays["c0.in.logits_s"].astype(np.float64), arrays["c0.in.labels"]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slope_of_ce = (shares - np.eye(logits.shape[1])[labels]) / len(labels)
    for bits in ("", "64"):
        arrays[f"c0.out{bits}.loss"] = arrays["c0.out64.ce"] + factor * arrays["c0.out64.dkd"]
        slope_of_dkd = arrays[f"c0.grad{bits}.logits_s"] - slope_of_ce
        arrays[f"c0.grad{bits}.logits_s"] = slope_of_ce + factor * slope_of_dkd
    check_case("classification/dkd", ClassificationCase(arrays, 0, dtype))


@BOTH
def test_the_objective_of_afdcd_without_an_auxiliary_head_lacks_its_loss_and_its_gradient(
    dtype: torch.dtype,
) -> None:
    arrays, meta = case_of("segmentation/afdcd_objective")
    arrays["c0.meta"] = np.array(json.dumps({**meta, "aux": False}))
    scores = torch.from_numpy(arrays["c0.aux_logits_S"]).double()
    labels = torch.from_numpy(arrays["c0.labels"]).long()
    enlarged = functional.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=True)
    auxiliary = 0.4 * functional.cross_entropy(enlarged, labels, ignore_index=meta["ignore_index"]).numpy()
    arrays["c0.task_loss"] = arrays["c0.task_loss"] - auxiliary
    arrays["c0.loss"] = arrays["c0.loss"] - auxiliary
    arrays["c0.grad_aux_logits_S"] = np.zeros_like(arrays["c0.grad_aux_logits_S"])
    check_case("segmentation/afdcd_objective", Case(arrays, 0, dtype))


def test_a_value_that_is_off_by_a_hundred_thousandth_is_refused_in_float64() -> None:
    arrays, _ = case_of("segmentation/cwd")
    arrays["c0.loss"] = arrays["c0.loss"] * (1 + 1e-5)
    with pytest.raises(AssertionError, match="loss is off by 1.0e-05"):
        check_case("segmentation/cwd", Case(arrays, 0, torch.float64))


def test_a_stored_value_that_the_adapter_leaves_out_is_refused() -> None:
    arrays, _ = case_of("segmentation/cwd")
    arrays["c0.grad_of_something"] = arrays["c0.loss"]
    with pytest.raises(AssertionError, match="does not compute: {'grad_of_something'}"):
        check_case("segmentation/cwd", Case(arrays, 0, torch.float64))


def test_a_file_is_known_by_its_folder_or_its_name_and_by_its_keys_where_two_tasks_have_that_name(
    tmp_path: Path,
) -> None:
    for task in ("segmentation", "classification"):
        nested = tmp_path / task / "dist.npz"
        nested.parent.mkdir()
        nested.write_bytes((STORED / task / "dist.npz").read_bytes())
        assert method_of(nested) == f"{task}/dist"
        flat = tmp_path / "dist.npz"
        flat.write_bytes(nested.read_bytes())
        assert method_of(flat) == f"{task}/dist"
    assert method_of(tmp_path / "cwd.npz") == "segmentation/cwd"
    assert method_of(tmp_path / "pkd_mmrazor.npz") == "detection/pkd_mmrazor"
    assert method_of(tmp_path / "detection" / "newest.npz") == "detection/newest"


def test_no_file_below_a_folder_is_passed_over_but_the_weights_beside_a_case(tmp_path: Path) -> None:
    names = ["strange.npz", "detection/fgd.npz", "deep/er/cwd.npz", "segmentation/skds_holistic_weights.npz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = {file.method for file in files_of(tmp_path)}
    assert listed == {"unknown/strange", "detection/fgd", "segmentation/cwd"}
    assert listed - set(ADAPTERS) == {"unknown/strange"}
