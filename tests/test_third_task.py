"""A third task is three files, a source and a row of the table: the commands do the rest.

The files stand in tests/support/balance. Nothing else of the project is told of the task: whatever knows only
the tasks that there are would show here.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from balance.source import NUM_IMAGES, BalanceSource, balance_of
from balance.supervised import Supervised
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

from kdcache.cache.networks.run import load_run_network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.find import caches_dir, find_cache
from kdcache.cache.sources import table as sources
from kdcache.cache.spec import Need
from kdcache.cache.tasks import table as tasks
from kdcache.cache.tasks.panels import text_panel
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.stored import StoredStream

ROW = tasks.TaskRow("balance.task:KIND", "balance.supervised:Supervised", "balance.judge:Judge")
RECIPE = "flip,mixup=1"
TINY = [
    "--student", "tiny_classifier:make", "--batch-size", "4", "--device", "cpu", "--log", "none",
    "--lr", "0.05",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The task, a teacher that was trained for it on fresh views, and its cache."""
    folder: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(folder))
        patch.setitem(tasks.TASKS, "balance", ROW)
        patch.setitem(sources.SOURCES, "balance", BalanceSource)  # type: ignore[arg-type]
        fresh = ["--data", f"balance:{folder}", "--augment", RECIPE]
        told(run(kdtrain, *fresh, "--run", "teacher", "--steps", "8", *TINY), "balance, 1 classes", "fresh")
        told(run(kdcache, "build", "--teacher", "teacher", "--augment", RECIPE), "24 teacher rows")
        yield folder


@pytest.fixture
def cache(home: Path) -> Cache:
    return open_cache(find_cache(None, caches_dir(home)))


def run(program: object, *arguments: str) -> Result:
    return CliRunner().invoke(program, arguments, catch_exceptions=False)  # type: ignore[arg-type]


def told(result: Result, *parts: str) -> None:
    assert result.exit_code == 0, result.output
    assert [part for part in parts if part not in " ".join(result.output.split())] == [], result.output


def assert_the_numbers_are_those_of_the_pixels(batch: Batch) -> None:
    """Of the very pixels that a network gets: half a grey level of rounding, and of the text."""
    seen = [balance_of(image) for image in batch.images_BHWC.numpy().astype(np.float64)]
    assert batch.truth.dtype == torch.float32 and batch.mixed is None
    np.testing.assert_allclose(batch.truth.numpy(), seen, atol=0.5 / 255)


LAYOUT = BatchLayout(seed=3, global_batch=4)


def test_fresh_views_carry_the_number_of_what_they_show(home: Path) -> None:
    stream = FreshStream(BalanceSource(home, "train"), layout=LAYOUT, crop=(32, 32), augment=RECIPE)
    batches = list(islice(stream.run(), 6))
    stream.close()
    for batch in batches:
        assert_the_numbers_are_those_of_the_pixels(batch)
    whole = {float(np.float32(BalanceSource(home, "train").label_bytes(i))) for i in range(12)}
    shown = torch.cat([batch.truth for batch in batches]).tolist()
    assert not set(shown) <= whole, "nothing was mixed"


def test_stored_views_carry_the_number_and_the_teachers_answer(home: Path, cache: Cache) -> None:
    needs = [Need(tap="logits"), Need(tap="embedding")]
    stream = StoredStream(cache, needs=needs, layout=LAYOUT)
    teacher = load_run_network(home / "runs" / "teacher").eval()
    for batch in islice(stream.run(), 6):
        assert_the_numbers_are_those_of_the_pixels(batch)
        with torch.no_grad():
            answers: dict[str, Tensor] = teacher(batch.images_BHWC, ["logits", "embedding"])
        stored = stream.targets(batch)
        for tap, answer in answers.items():
            torch.testing.assert_close(stored[tap], answer, rtol=2e-3, atol=2e-3)
    stream.close()


def test_a_student_learns_from_the_cache_and_is_judged_by_the_tasks_own_judge(home: Path) -> None:
    loss = "balance.supervised:Agreement(weight=2)"
    trained = run(kdtrain, "--loss", loss, "--run", "student", "--steps", "8", *TINY)
    told(trained, "balance, 1 classes", "stored, cache balance-teacher", "Agreement")
    lines = read_metrics(home / "runs" / "student")
    assert {"total", "task", "Agreement"} <= set(lines[0]["loss"])
    out = home / "judged.json"
    judged = run(kdtrain, "eval", "student", "--teacher", "teacher", "--out", str(out))
    told(judged, "5 images", "closeness %", "agreement", "teacher 'teacher' is the run")
    figures = json.loads(out.read_text())
    student, teacher = (answers_of(load_run_network(home / "runs" / n), home) for n in ("student", "teacher"))
    source = BalanceSource(home, "val")
    numbers = torch.tensor([balance_of(source.pixels(i)) for i in range(NUM_IMAGES["val"])])
    assert figures["closeness"] == pytest.approx(1 - float((student - numbers).abs().mean()), abs=1e-6)
    assert figures["agreement"] == pytest.approx(1 - float((student - teacher).abs().mean()), abs=1e-6)
    assert figures["per_number_closeness"] == {"balance": figures["closeness"]}
    card = json.loads((home / "runs" / "student" / "network.json").read_text())
    assert card["task"] == "balance" and card["metrics"]["best/closeness"] == figures["closeness"]


def test_a_task_without_records_of_its_images_says_so_before_it_judges(home: Path) -> None:
    refused = run(kdtrain, "eval", "teacher", "--json", str(home / "boxes.json"))
    assert refused.exit_code == 2 and not (home / "boxes.json").exists(), refused.output
    said = " ".join(refused.stderr.split())
    assert "what a network says of each image is written where it says boxes" in said
    assert "leave --json out; --out writes the figures" in said


def test_a_task_without_predictions_says_so_before_any_folder_is_made(home: Path) -> None:
    refused = run(kdtrain, "predict", "teacher", str(home), "--out", str(home / "said"))
    assert refused.exit_code == 2 and not (home / "said").exists(), refused.output
    assert refused.stderr == (
        "error: a prediction is a mask, a class or boxes, and this task has none of them\n"
        f"  where: {home}/runs/teacher\n  fix:   judge it: kdtrain eval teacher\n"
    )


def test_losses_read_the_number_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not as a class: the whole numbers nearest to 0 would teach nothing, in silence."""
    read: list[Tensor] = []
    forward = Supervised.forward

    def spying(self: Supervised, inputs: StepInputs) -> Tensor:
        read.append(inputs.truth)
        return forward(self, inputs)

    monkeypatch.setattr(Supervised, "forward", spying)
    told(run(kdtrain, "--run", "spied", "--steps", "2", *TINY))
    assert len(read) == 2 and all(truth_B.dtype == torch.float32 for truth_B in read)
    assert min(float(truth_B.abs().max()) for truth_B in read) > 0.01


def answers_of(network: torch.nn.Module, home: Path) -> Tensor:
    """What a network says of the images of the validation split, (N,)."""
    source = BalanceSource(home, "val")
    images_BHWC = torch.from_numpy(np.stack([source.pixels(i) for i in range(NUM_IMAGES["val"])]))
    with torch.no_grad():
        said: Tensor = network.eval()(images_BHWC, ["logits"])["logits"][:, 0]
    return said


def test_a_loss_is_the_tasks_own_or_says_that_it_is_not_for_it(home: Path) -> None:
    refused = run(kdtrain, "--loss", "kd", "--run", "refused", "--steps", "1", *TINY)
    assert refused.exit_code == 2, refused.output
    assert "'kd' is a method for segmentation and classification, and this is balance" in refused.stderr


def test_the_cache_is_shown_and_whole(home: Path) -> None:
    told(
        run(kdcache, "show"),
        "12 samples, 1 classes, balance",
        "1: 12 samples live, 0 are retired",
        "losses it can serve: none",
    )
    told(run(kdcache, "verify", "--deep"), "12 samples, 0 retired, 0 damaged", "embedding", "logits")
    told(run(kdcache, "taps", "--teacher", "teacher"), "input 32x32", "embedding")


def test_a_sample_is_drawn_with_its_number_and_the_teachers(home: Path, cache: Cache) -> None:
    drawn, key = home / "peek.png", cache.key(0)
    told(run(kdcache, "peek", key, "--view", "1", "--out", str(drawn)), "image, label, embedding 6, teacher")
    sheet = np.asarray(Image.open(drawn))
    stored = float(cache.parts("logits", 0, 1)["values"][0])
    panel = text_panel([f"balance {stored:+.3f}"])
    np.testing.assert_array_equal(sheet[18:, 3 * 324 : 3 * 324 + 320], panel)


def test_a_cache_of_a_task_that_is_gone_is_refused_and_not_read_as_another(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(tasks.TASKS, "balance")
    for command in (
        ["show"],
        ["peek", "train/00"],
        ["build", "--cache", cache_name(home), "--tap", "stage1"],
    ):
        refused = run(kdcache, *command)
        assert refused.exit_code == 2 and "unknown task 'balance'" in refused.stderr, refused.output
    for arguments in (["eval", "teacher"], ["--run", "next", "--steps", "1", *TINY]):
        refused = run(kdtrain, *arguments)
        assert refused.exit_code == 2 and "unknown task 'balance'" in refused.stderr, refused.output


def cache_name(home: Path) -> str:
    return find_cache(None, caches_dir(home)).name
