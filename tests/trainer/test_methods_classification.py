"""The story of every method for classification, from a cache or without one: two steps; the same run,
continued from its first checkpoint, ends bit for bit the same; the kept student has nothing of the losses.
"""

import hashlib
import math
import shutil
from pathlib import Path

import pytest
import torch
from class_data import draw_npz
from class_methods import HEAD, METHODS, SIZE, make_home, options_of, two_ranks
from safetensors.torch import load_file

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions
from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.run import evaluate_run, train_run
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

MEMORIES = ("memory_student_ND", "memory_teacher_ND", "scales_2", "embed_teacher.weight")  # of crd


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run of SSKD's first stage, which its second one begins with."""
    home = make_home(tmp_path_factory.mktemp("home"))
    train_run({**options_of("sskd(stage=head)", home), "run": HEAD}, home=home)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("loss", METHODS)
def test_a_method_trains_continues_bit_identical_and_leaves_a_plain_student(loss: str, home: Path) -> None:
    given, run_dir = options_of(loss, home), home / "runs" / "story"
    shutil.rmtree(run_dir, ignore_errors=True)
    train_run({**given, "run": "story"}, home=home)
    whole = _left_behind(run_dir)
    shutil.rmtree(list_checkpoints(run_dir)[-1])
    train_run({"run": "story"}, home=home, resume=True)
    assert _left_behind(run_dir) == whole
    losses = [line["loss"] for line in read_metrics(run_dir) if "loss" in line]
    assert len(losses) == 2 and all(math.isfinite(value) for line in losses for value in line.values())
    plain = build_network(str(given["student"]), task=CLASSIFICATION, num_classes=3, role="student")
    kept = load_file(run_dir / "student.safetensors")
    assert {name: value.shape for name, value in kept.items()} == {
        name: value.shape for name, value in plain.state_dict().items()
    }
    checkpoint = list_checkpoints(run_dir)[-1] / "distiller.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())


def _left_behind(run_dir: Path) -> dict[str, str]:
    """Digests of the exported weights and of every part of the last checkpoint."""
    files = [*run_dir.glob("*.safetensors"), *list_checkpoints(run_dir)[-1].iterdir()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("stride", [{"output_stride": 8}, {"aux": True}])
def test_options_of_segmentation_are_refused_for_a_classifier(stride: dict[str, object], home: Path) -> None:
    option = "--output-stride 8" if "output_stride" in stride else "--aux"
    with pytest.raises(BadOption, match=f"{option} for classification") as caught:
        train_run({**options_of("none", home), **stride, "run": "refused"}, home=home)
    assert caught.value.where == option and "leave" in caught.value.fix
    if "output_stride" in stride:
        options = BuildOptions(
            runs_dir=home / "runs", caches_dir=home / "caches", teacher="tiny_classifier:make",
            data=f"npz:{home / 'small.npz'}", output_stride=8,
        )  # fmt: skip
        with pytest.raises(BadOption, match=f"{option} for classification"):
            build_cache(options)


def test_a_loss_that_reads_turns_says_how_to_add_them(tmp_path: Path) -> None:
    options = BuildOptions(
        runs_dir=tmp_path / "runs", caches_dir=tmp_path / "caches", teacher="tiny_classifier:make",
        data=f"npz:{draw_npz(tmp_path, (*SIZE, 3))}", views="crops:1",
    )  # fmt: skip
    name = build_cache(options).root.name
    with pytest.raises(BadOption, match="four quarter turns; the cache has crops") as caught:
        train_run({**options_of("sskd(stage=head)", tmp_path), "run": "r"}, home=tmp_path)
    assert f"kdcache build --cache {name} --views turns:8" in caught.value.fix


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The home of a cache that keeps two teachers side by side, and of one that keeps their mean."""
    homes = {}
    for mean in (False, True):
        home = tmp_path_factory.mktemp("mean" if mean else "members")
        options = BuildOptions(
            runs_dir=home / "runs", caches_dir=home / "caches", views="crops:2", mean=mean,
            teacher="tiny_classifier:make,tiny_classifier:make_other",
            data=f"npz:{draw_npz(home, (*SIZE, 3))}",
        )  # fmt: skip
        build_cache(options)
        homes[mean] = home
    return homes


def test_two_teachers_side_by_side_teach_what_their_stored_mean_does(ensembles: dict[bool, Path]) -> None:
    """Up to one rounding to fp16 per stored value."""
    answers = {}
    for mean, home in ensembles.items():
        (root,) = (home / "caches").iterdir()
        cache = open_cache(root)
        assert ("logits" in cache.manifest.tap_names) == mean
        stream = StoredStream(
            cache,
            needs=(Need(tap="logits"),),
            layout=BatchLayout(seed=0, global_batch=6, world=1, rank=0, accumulation=1),
        )
        batches = stream.run()
        answers[mean] = torch.cat([stream.targets(next(batches))["logits"] for _ in range(6)])
        stream.close()
    rounding = answers[True].abs().max() * 2.0**-11
    assert answers[False].dtype == torch.float32 and answers[False].shape == (36, 3)
    assert (answers[False] - answers[True]).abs().max() <= 2 * rounding
    assert answers[False].std(0).min() > 10 * rounding  # a mean that says something


def test_a_student_of_an_ensemble_is_judged_beside_the_mean_of_its_members(
    ensembles: dict[bool, Path],
) -> None:
    home = ensembles[False]
    train_run({**options_of("kd", home), "run": "student"}, home=home)
    both = "tiny_classifier:make,tiny_classifier:make_other"
    judged = evaluate_run("student", home=home, data=None, split="test", teacher=both, device="cpu")
    assert "ensemble of 2 with their mean logits" in judged.teacher
    assert {"agreement", "teacher_kl"} <= set(judged.metrics.named())


def test_a_generator_asks_one_teacher(ensembles: dict[bool, Path]) -> None:
    home = ensembles[False]
    both = {"teacher": "tiny_classifier:make,tiny_classifier:make_other", "run": "dafl"}
    with pytest.raises(BadOption, match="one teacher's logits and embedding") as caught:
        train_run({**options_of("dafl", home), **both}, home=home)
    assert "no ensemble" in caught.value.fix


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "learned"),
    [
        ("crd(negatives=4,dim=8)", MEMORIES),
        ("sskd(stage=head)", ("teacher_head.0.weight", "head_steps")),
        ("okddip", ("query.weight", "key.weight")),
        ("byot(exits=2,form=archiplab)", ("adapters.0.weight",)),
        ("dml(form=okddip,students=3)", ()),
        ("dml", ()),
        ("dafl", ("generator.linear.weight",)),
    ],
)  # fmt: skip
def test_two_ranks_end_with_equal_students_and_memories(
    loss: str, learned: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    shutil.rmtree(home / "runs" / "ranks", ignore_errors=True)
    mine, theirs = two_ranks(loss, home, tmp_path)
    own = [name for name in mine if name.startswith("losses.") and name.endswith(learned or ("no part",))]
    assert len(own) == len(learned)
    for name in mine:
        if not name.endswith(("running_mean", "running_var")):  # each rank's own between two forwards
            assert torch.equal(mine[name], theirs[name]), name
