"""Exports: what leaves says what the run says and opens with the libraries' own calls, or is not there."""

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from left_runs import NAME, Left, left_run
from torch import Tensor
from torch.nn.functional import interpolate

from kdcache.cache.errors import BadOption, BadWeights, Missing, NotFinite
from kdcache.cache.networks.families import library_form
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_card import read_run_card, save_run_network
from kdcache.cache.sources.table import data_word
from kdcache.cache.trust import consent
from kdcache.trainer.export import export as module
from kdcache.trainer.export import judge_exported
from kdcache.trainer.export.export import export_run
from kdcache.trainer.export.exported import Exported, open_exported
from kdcache.trainer.export.judge_exported import evaluate_exported
from kdcache.trainer.export.model_card import model_card
from kdcache.trainer.folder.scores import write_scores
from kdcache.trainer.judge.judge import judge_of
from kdcache.trainer.run import evaluate_run

FAST = [("segmentation", "smp"), ("classification", "timm")]
GRAPHS = [
    (task, form) for task in ("segmentation", "classification", "detection") for form in ("onnx", "pt2")
]
FORMS = [*FAST, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in GRAPHS)]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    tasks = ("segmentation", "classification", "detection")
    return {task: left_run(tmp_path_factory.mktemp(task), task) for task in tasks}


@pytest.fixture(autouse=True)
def trusted() -> Iterator[None]:
    """What is opened here was written here."""
    with consent(["torch.export"]):
        yield


def images(one: Left, size: tuple[int, int], count: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=draw)


@pytest.mark.parametrize(("task", "form"), FORMS)
def test_an_export_is_judged_as_the_run_is(
    left: dict[str, Left], tmp_path: Path, task: str, form: str
) -> None:
    one = left[task]
    if task == "segmentation" and form != "smp":  # a .pt2 has no free sizes for the smallest encoder
        one = left_run(tmp_path / "home", task, name="r18")
    done = export_run(NAME, form, home=one.home, out=tmp_path / "out")
    assert done.difference.small and done.difference.largest > 0.1
    assert done.record.fixed_px == (None if task == "segmentation" or form == "timm" else one_size(task))
    run = evaluate_run(NAME, home=one.home, data=None, split="val", device="cpu").metrics
    exported = evaluate_exported(tmp_path / "out", data=None, split="val").metrics
    assert exported.num_images == run.num_images
    assert exported.named() == pytest.approx(run.named(), abs=2e-4, nan_ok=True)
    assert exported.per_class == pytest.approx(run.per_class, abs=5e-4, nan_ok=True)
    asked = open_exported(tmp_path / "out")
    shown = images(one, (75, 100) if task == "segmentation" else done.record.crop)
    with torch.no_grad():
        wanted = one.network(shown, asked.taps)
    for tap, value in asked(shown).items():
        larger = wanted[tap]
        if value.shape != larger.shape:
            larger = interpolate(larger, size=value.shape[2:], mode="bilinear", align_corners=True)
        torch.testing.assert_close(value, larger, atol=2e-4, rtol=1e-3)
    assert not list(tmp_path.glob(".out*")), "no draft stays"
    assert (tmp_path / "out" / "decode.py").exists() == (task == "detection")


def one_size(task: str) -> tuple[int, int]:
    return {"classification": (32, 32), "detection": (64, 96)}[task]


def normalised(folder: Path, shown: Tensor, said: dict[str, Any]) -> Tensor:
    mean, std = (torch.tensor(said[name])[:, None, None] for name in ("mean", "std"))
    return (shown.permute(0, 3, 1, 2).float() / 255 - mean) / std


def test_timm_opens_its_folder_with_the_classes_and_the_normalisation_in_it(
    left: dict[str, Left], tmp_path: Path
) -> None:
    one = left["classification"]
    export_run(NAME, "timm", home=one.home, out=tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == ["cat", "dog"]
    assert tuple(model.pretrained_cfg["input_size"]) == (3, 32, 32)
    shown = images(one, (32, 32))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    with torch.no_grad():
        said = model(normalised(tmp_path, shown, config["pretrained_cfg"]))
        torch.testing.assert_close(said, one.network(shown, ("logits",))["logits"], atol=1e-5, rtol=1e-4)


def test_smp_opens_its_folder_with_the_classes_and_the_normalisation_in_it(
    left: dict[str, Left], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = left["segmentation"]
    export_run(NAME, "smp", home=one.home, out=tmp_path / "out")
    assert capsys.readouterr().out == ""
    model = smp.from_pretrained(str(tmp_path / "out")).eval()
    said = json.loads((tmp_path / "out" / "config.json").read_text())["_kdcache"]
    assert said["label_names"] == ["sky", "ground", "thing"] and said["multiple"] == 8
    shown = images(one, (64, 96))
    with torch.no_grad():
        logits = model(normalised(tmp_path, shown, said))
        wanted = one.network(shown, ("logits",))["logits"]
    larger = interpolate(wanted, size=(64, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, larger, atol=1e-4, rtol=1e-3)


def test_the_card_says_where_it_comes_from(left: dict[str, Left], tmp_path: Path) -> None:
    one = left_run(tmp_path / "home", "classification")
    card = read_run_card(one.run_dir)
    write_scores(one.run_dir, "val", {"top1": 0.625, "nll": 0.5, "num_images": 8, "data": "x"})
    export_run(NAME, "timm", home=one.home, out=tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "timm.create_model('local-dir:DIR', pretrained=True)" in text
    assert f"| data | {data_word(card.data)}, split train |" in text and str(tmp_path) not in text
    assert "| loss | none |" in text and "| teacher | none |" in text
    assert "| seed, steps, batch | 3, 7, " in text
    assert f"| student | SHA-256 {card.weights_digest} |" in text
    assert "Classes: 0 cat, 1 dog" in text
    assert "| val | 3 | 8 | nll 0.5000 nats, top1 62.50 % |" in text and "| test |" not in text
    assert "made for 32x32 pixels" in text


def test_the_card_of_a_student_that_nobody_judged_says_what_val_said_while_it_trained(tmp_path: Path) -> None:
    one = left_run(tmp_path / "home", "classification")
    card = replace(read_run_card(one.run_dir), metrics={"best/step": 7, "best/top1": 0.625, "val/top1": 0.5})
    save_run_network(one.run_dir, one.network, card)
    record = export_run(NAME, "timm", home=one.home, out=tmp_path / "out").record
    card = read_run_card(one.run_dir)
    text = model_card(one.run_dir, card, record, judge_of(card.task, card.class_names).leaving, one.home)
    (line,) = [line for line in text.splitlines() if line.startswith("Scores: ")]
    assert line.startswith("Scores: top1 62.50 % on val, which chose these weights; not judged apart yet")


def test_the_card_reads_as_it_was_meant(tmp_path: Path) -> None:
    """Its own code has no backslashes, for they would be seen there; a name of the user's is no Markdown."""
    one = left_run(tmp_path / "home", "classification")
    card = replace(read_run_card(one.run_dir), class_names=("traffic_light", "_a_|`b`[c](d)*<i>"))
    save_run_network(one.run_dir, one.network, card)
    record = export_run(NAME, "timm", home=one.home, out=tmp_path / "out").record
    leaving = judge_of(card.task, card.class_names).leaving
    text = model_card(one.run_dir, card, record, leaving, one.home)
    assert "| input | normalised RGB; mean and std stand in `config.json`, `pretrained_cfg`; made for" in text
    code = re.findall(r"(?<!\\)`[^`\n]+(?<!\\)`", text)
    assert len(code) >= 3 and not [span for span in code if "\\" in span]
    (classes,) = [line for line in text.splitlines() if line.startswith("Classes: ")]
    assert classes == r"Classes: 0 traffic_light, 1 \_a\_\|\`b\`\[c\](d)\*\<i\>"


# ---- what is refused, and leaves nothing


def refused(one: Left, out: Path, form: str, kind: type[Exception] = BadOption) -> str:
    with pytest.raises(kind) as caught:
        export_run(NAME, form, home=one.home, out=out)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*")), "nothing half-written stays"
    return str(caught.value)


def test_an_export_that_says_something_else_is_not_there(
    left: dict[str, Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: Network, folder: Path, names: Sequence[str], input_px: tuple[int, int]) -> None:
        off = {"mean": network.normalise.mean.tolist(), "std": (network.normalise.std + 0.01).tolist()}
        monkeypatch.setattr(library_form, "_normalisation", lambda _: off)
        library_form.write_timm(network, folder, names, input_px)

    monkeypatch.setitem(module.LIBRARIES, "timm", wrong)
    said = refused(left["classification"], tmp_path / "out", "timm")
    assert said.startswith("the timm of timm:test_resnet does not say what torch says: it differs by ")
    assert "more than 0.001 of its largest value" in said
    assert said.endswith("\n  where: --to timm\n  fix:   nothing was written; take another form: onnx, pt2")


def test_a_task_leaves_in_its_forms_alone(left: dict[str, Left], tmp_path: Path) -> None:
    assert refused(left["detection"], tmp_path / "out", "timm") == (
        "a network for detection does not leave as timm\n  where: --to timm\n  fix:   choose one of onnx, pt2"
    )
    assert refused(left["detection"], tmp_path / "out", "onxn").startswith("unknown form 'onxn'")


def test_a_network_that_no_library_has_says_so(tmp_path: Path) -> None:
    one = left_run(tmp_path / "home", "classification", name="resnet8")
    assert refused(one, tmp_path / "out", "timm") == (
        "resnet8 is no network that timm can build again from its name\n  where: --to timm\n"
        "  fix:   write a graph, which needs no library: --to onnx or --to pt2"
    )


def test_data_that_are_gone_and_a_folder_that_is_there_are_said(tmp_path: Path) -> None:
    one = left_run(tmp_path / "home", "classification")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    with pytest.raises(BadOption, match="'taken' is there already, and nothing is written over it"):
        export_run(NAME, "timm", home=one.home, out=tmp_path / "taken")
    (one.home / "data").rename(one.home / "moved")
    said = refused(one, tmp_path / "out", "timm", Missing)
    assert said.startswith("an export is compared with torch on images of the run's data: ")
    assert said.endswith("fix:   put the data back where the run was trained on them")


def test_a_student_without_numbers_does_not_leave(tmp_path: Path) -> None:
    one = left_run(tmp_path / "home", "classification")
    one.network.model.get_submodule("network.fc").bias.data[0] = float("nan")  # type: ignore[index, operator, union-attr]
    save_run_network(one.run_dir, one.network, read_run_card(one.run_dir))
    assert refused(one, tmp_path / "out", "timm", NotFinite) == (
        "the student answers infinity or NaN for images of its own data\n  where: timm:test_resnet\n"
        "  fix:   train it again under another --run: such a student is no network that can be used"
    )


def test_onnx_without_its_packages_says_what_to_install(
    left: dict[str, Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(importlib.import_module("sys").modules, "onnxscript", None)
    said = refused(left["classification"], tmp_path / "out", "onnx")
    assert said.startswith("ONNX needs a package that is not installed: onnxscript\n  where: --to onnx\n")
    assert said.endswith("fix:   pip install 'kdcache[export]', or write torch's own graph: --to pt2")


def test_an_export_is_judged_on_data_of_its_classes(left: dict[str, Left], tmp_path: Path) -> None:
    one, out = left["classification"], tmp_path / "out"
    export_run(NAME, "timm", home=one.home, out=out)
    val = one.home / "data" / "val"
    (val / "cat").rename(val / "cow")
    (one.home / "data" / "train" / "cat").rename(one.home / "data" / "train" / "cow")
    try:
        with pytest.raises(BadOption) as caught:
            evaluate_exported(out, data=None, split="val")
    finally:
        (val / "cow").rename(val / "cat")
        (one.home / "data" / "train" / "cow").rename(one.home / "data" / "train" / "cat")
    assert str(caught.value) == (
        f"'{one.spec}' has 2 classes, the export 2: the data have also 'cow' and lack 'cat'\n"
        f"  where: --data {one.spec}\n  fix:   use data of the same classes in the same order"
    )
    with pytest.raises(BadOption, match="a network says of each image is written where it says boxes"):
        evaluate_exported(out, data=None, split="val", with_records=True)


def test_an_export_that_answers_no_numbers_is_given_no_score(
    left: dict[str, Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float16 graph on another machine may overflow: its mIoU is then not 0 but none."""
    one, out = left["segmentation"], tmp_path / "out"
    export_run(NAME, "smp", home=one.home, out=out)
    opened = open_exported(out)
    asked = Exported(out, opened.record, lambda images: (opened(images)["logits"] * torch.inf,))
    monkeypatch.setattr(judge_exported, "open_exported", lambda folder: asked)
    with pytest.raises(NotFinite) as caught:
        evaluate_exported(out, data=None, split="val")
    assert str(caught.value) == (
        "the export answers infinity or NaN for 4 of 4 images: it has no figures\n"
        f"  where: {out}\n  fix:   export the run again, or judge the run: kdtrain eval {NAME}"
    )


def test_a_folder_that_its_library_does_not_open_is_said(left: dict[str, Left], tmp_path: Path) -> None:
    from kdcache.trainer.export.exported import open_form

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadWeights) as caught:
        open_form(tmp_path, "smp", 8)
    assert str(caught.value).startswith("smp does not open it: ")
    assert str(caught.value).endswith(f"\n  where: {tmp_path}\n  fix:   export the run again")


@pytest.mark.slow
def test_boxes_of_the_decoder_beside_a_graph_are_those_that_are_judged(
    left: dict[str, Left], tmp_path: Path
) -> None:
    one = left["detection"]
    export_run(NAME, "pt2", home=one.home, out=tmp_path / "out")
    asked = open_exported(tmp_path / "out")
    shown = images(one, (64, 96))
    values = {tap: value.numpy() for tap, value in asked(shown).items()}
    scope: dict[str, Any] = {}
    exec((tmp_path / "out" / "decode.py").read_text(), scope)  # as a user runs it
    grid = json.loads((tmp_path / "out" / "export.json").read_text())["grid"]
    said = scope["decode"](values, grid, (64, 96))
    from kdcache.cache.networks.families.detectors.decode import decode

    assert one.network.grid is not None
    with torch.no_grad():
        wanted = decode(one.network(shown, asked.taps), one.network.grid, 3, (64, 96))
    assert len(said[0][0]) > 3
    np.testing.assert_allclose(said[0][0], wanted[0].boxes_N4.numpy(), atol=1e-2)
    np.testing.assert_array_equal(said[0][2], wanted[0].classes_N.numpy())


@pytest.mark.slow
def test_a_network_of_one_size_leaves_for_the_size_of_its_images(tmp_path: Path) -> None:
    """PSPNet's pooling into 6 by 6 cells has no ONNX operator for sizes that are not known."""
    one = left_run(tmp_path / "home", "segmentation", name="pspnet:test_resnet")
    done = export_run(NAME, "onnx", home=one.home, out=tmp_path / "out")
    assert done.record.fixed_px == (75, 100) and "75x100 pixels" in done.sizes
    with pytest.raises(BadOption, match="takes images of 75x100 pixels alone, not of 67x100"):
        evaluate_exported(tmp_path / "out", data=None, split="val")
