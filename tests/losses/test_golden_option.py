"""`pytest --golden DIR`: every file below DIR is served, can fail, and is never silently passed over."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
STORED = HERE.parent / "golden" / "segmentation" / "kd_pixelwise.npz"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-v", "--golden", str(folder), str(HERE / "test_golden.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])


@pytest.mark.slow
def test_files_from_elsewhere_are_run_by_their_own_case_numbers_and_can_fail(tmp_path: Path) -> None:
    with np.load(STORED) as archive:
        right = {key.replace("c0.", "c5."): archive[key] for key in archive if key.startswith("c0.")}
        wrong = {key.replace("c0.", "c7."): archive[key] for key in archive if key.startswith("c0.")}
    wrong["c7.loss"] = wrong["c7.loss"] * 1.001
    np.savez(tmp_path / STORED.name, cases=np.array([5, 7]), **right, **wrong)
    answer = run(tmp_path)
    assert answer.returncode == pytest.ExitCode.TESTS_FAILED
    assert "[golden-segmentation/kd_pixelwise-c5-float64] PASSED" in answer.stdout
    assert "[golden-segmentation/kd_pixelwise-c5-float32] PASSED" in answer.stdout
    assert "[golden-segmentation/kd_pixelwise-c7-float64] FAILED" in answer.stdout


@pytest.mark.slow
def test_a_file_that_no_adapter_knows_fails_and_the_others_are_served_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "segmentation").mkdir()
    (tmp_path / "segmentation" / STORED.name).write_bytes(STORED.read_bytes())
    np.savez(tmp_path / "segmentation" / "newest.npz", cases=np.array([0]))
    np.savez(tmp_path / "fgd.npz", cases=np.array([], dtype=np.int64))
    np.savez(tmp_path / "cwd.npz", cases=np.array([], dtype=np.int64))
    answer = run(tmp_path)
    assert answer.returncode == pytest.ExitCode.TESTS_FAILED
    assert "[golden-segmentation/kd_pixelwise-c0-float32] PASSED" in answer.stdout
    assert "[golden-segmentation/newest] FAILED" in answer.stdout
    assert "newest.npz has no adapter" in answer.stdout
    assert "[golden-segmentation/cwd] FAILED" in answer.stdout
    assert "cwd.npz lists no case" in answer.stdout
    assert "[golden-detection/fgd] FAILED" in answer.stdout
    assert "fgd.npz lists no case" in answer.stdout
    assert "3 failed" in answer.stdout


@pytest.mark.slow
def test_a_folder_without_any_file_is_an_error(tmp_path: Path) -> None:
    answer = run(tmp_path)
    assert answer.returncode in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
    assert "there is no npz file with cases in" in answer.stdout + answer.stderr
