"""`predict`, `export` and `eval --exported`: what was typed arrives, and what was done is said."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.export.compare import Difference
from kdcache.trainer.export.export import Done
from kdcache.trainer.export.predict import Predicted
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.run import Judged


def kd(*arguments: str) -> Result:
    return CliRunner().invoke(kdtrain, arguments)


class Heard:
    """Answers with one value and keeps what it was asked."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *asked: Any, **named: Any) -> object:
        self.asked, self.named = asked, named
        return self.answer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return tmp_path


def test_predict_asks_for_what_was_typed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(Predicted(Path("o"), 7, ("classes.csv",), True))
    monkeypatch.setattr("kdcache.trainer.export.predict.predict_images", heard)
    typed = ("predict", "r", "a.jpg", "d", "--out", "o", "--overlay", "--device", "cpu", "--threads", "2")
    done = kd(*typed)
    assert done.exit_code == 0, done.output
    assert heard.asked == ("r", ("a.jpg", "d"))
    assert heard.named == {
        "home": home, "out": Path("o"), "overlay": True, "device": "cpu", "threads": 2,
        "skip_bad": False,
    }  # fmt: skip
    assert done.output == "7 images: masks/, overlays/, classes.csv in o\n"
    assert kd("predict", "r", "--out", "o").exit_code == 2, "without images there is nothing to say"


def test_export_asks_for_what_was_typed_and_says_how_far_it_is_from_torch(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = home / "o"
    out.mkdir()
    (out / "model.pt2").write_bytes(b"x" * 2048)
    record: Any = None
    heard = Heard(Done(out, record, Difference(2.5e-6, 12.0, 9), "folder:d, val", "any size, any batch"))
    monkeypatch.setattr("kdcache.trainer.export.export.export_run", heard)
    done = kd("export", "r", "--to", "pt2", "--out", str(out), "--threads", "3")
    assert done.exit_code == 0, done.output
    assert heard.asked == ("r", "pt2") and heard.named == {"home": home, "out": out, "threads": 3}
    assert done.output == (
        f"{out}: model.pt2 (2.0 KiB)\n"
        "largest difference from torch 2.5e-06, of values up to 12, on 9 images (folder:d, val)\n"
        "sizes of images: any size, any batch\n"
        f"judge it: kdtrain eval --exported {out} --trust torch.export\n"
    )
    assert kd("export", "r", "--to", "tflite", "--out", "o").exit_code == 2


@pytest.fixture
def exported(home: Path, monkeypatch: pytest.MonkeyPatch) -> Heard:
    metrics = SegmentationMetrics(0.25, {"sky": 0.5}, 0.125, 7, 0.75)
    heard = Heard(Judged(home / "o", "camvid:d", metrics, "exported as onnx from run r"))
    monkeypatch.setattr("kdcache.trainer.export.judge_exported.evaluate_exported", heard)
    return heard


def test_an_export_is_judged_in_place_of_a_run(exported: Heard, home: Path) -> None:
    out = home / "figures.json"
    done = kd("eval", "--exported", "o", "--split", "test", "--out", str(out), "--data", "folder:x")
    assert done.exit_code == 0, done.output
    assert exported.asked == (Path("o"),)
    assert exported.named == {"split": "test", "data": "folder:x", "threads": 1, "with_records": False}
    assert "o on camvid:d, test: 7 images\nexported as onnx from run r\n" in done.output
    assert '"miou": 0.25' in out.read_text()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "nothing to judge: no run and no export\n  where: kdtrain eval\n"
         "  fix:   name a run, kdtrain eval RUN, or an export, kdtrain eval --exported DIR"),
        (["r", "--exported", "o"], "both a run and an export to judge: 'r' and 'o'\n  where: --exported o\n"
         "  fix:   leave one of them out"),
        (["--exported", "o", "--exit", "2"], "--exit is asked of a run, and an export has nothing of it\n"
         "  where: --exported o\n  fix:   leave --exit out, or name the run in place of the export"),
        (["--exported", "o", "--teacher", "t"], "--teacher is asked of a run, and an export has"),
        (["--exported", "o", "--device", "cuda"], "an export is judged on the CPU\n  where: --device cuda\n"
         "  fix:   leave --device out"),
    ],
)  # fmt: skip
def test_what_an_export_cannot_be_asked_is_said(exported: Heard, typed: list[str], said: str) -> None:
    done = kd("eval", *typed)
    assert done.exit_code == 2
    assert said in done.stderr
    assert exported.named == {}, "nothing was judged"
