"""Predictions: what is written of images is what is judged of them, counted by other means."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from left_runs import NAME, Left, left_run
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kdcache.cache.errors import BadOption, BadSample, Missing, NotFinite
from kdcache.cache.networks.run_card import read_run_card, save_run_network
from kdcache.cache.tasks.panels import class_colour
from kdcache.trainer.export import predict
from kdcache.trainer.export.predict import predict_images
from kdcache.trainer.run import evaluate_run


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    tasks = ("segmentation", "classification", "detection")
    return {task: left_run(tmp_path_factory.mktemp(task), task) for task in tasks}


def judged(one: Left) -> dict[str, float]:
    metrics = evaluate_run(NAME, home=one.home, data=None, split="val", device="cpu").metrics
    return {**metrics.named(), **metrics.per_class}


def test_masks_counted_by_hand_give_the_scores_of_eval(left: dict[str, Left], tmp_path: Path) -> None:
    one = left["segmentation"]
    done = predict_images(NAME, [str(one.images)], home=one.home, out=tmp_path / "p", overlay=True)
    assert (done.num_images, done.masks, done.files) == (4, True, ("classes.csv",))
    counts = np.zeros((3, 3), dtype=int)
    for path in sorted(one.images.iterdir()):
        with Image.open(tmp_path / "p" / "masks" / f"{path.stem}.png") as mask:
            assert mask.mode == "P" and mask.getpalette()[3:6] == list(class_colour(1))
            said = np.asarray(mask)
        truth = np.asarray(Image.open(one.images.parent / "labels" / f"{path.stem}.png"))
        assert said.shape == truth.shape
        for row, column in zip(truth[truth < 255], said[truth < 255], strict=True):
            counts[row, column] += 1
        drawn = np.asarray(Image.open(tmp_path / "p" / "overlays" / f"{path.stem}.png"))
        assert len(drawn) == len(said) + 16 * len(np.unique(said)), "a line for each class that occurs"
    hits = np.diagonal(counts)
    iou = hits / (counts.sum(0) + counts.sum(1) - hits)
    scores = judged(one)
    assert 0 < scores["pixel_accuracy"] < 1, "a score that could not differ"
    assert scores["miou"] == pytest.approx(float(iou.mean()))
    assert scores["pixel_accuracy"] == pytest.approx(hits.sum() / counts.sum())


def test_an_overlay_is_half_the_image_and_half_the_colours(left: dict[str, Left], tmp_path: Path) -> None:
    one = left["segmentation"]
    image = sorted(one.images.iterdir())[0]
    predict_images(NAME, [str(image)], home=one.home, out=tmp_path / "p", overlay=True)
    pixels = np.asarray(Image.open(image).convert("RGB")).astype(int)
    mask = np.asarray(Image.open(tmp_path / "p" / "masks" / f"{image.stem}.png"))
    colours = np.array([class_colour(number) for number in range(3)])[mask]
    drawn = np.asarray(Image.open(tmp_path / "p" / "overlays" / f"{image.stem}.png")).astype(int)
    drawn = drawn[: len(pixels), : pixels.shape[1]]
    assert np.abs(drawn - (pixels + colours) / 2).max() <= 1
    with (tmp_path / "p" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["sky", "ground", "thing"]
    assert [int(rows[2][part]) for part in ("red", "green", "blue")] == list(class_colour(2))


def test_classes_counted_by_hand_give_the_scores_of_eval(left: dict[str, Left], tmp_path: Path) -> None:
    one = left["classification"]
    predict_images(NAME, [str(one.images)], home=one.home, out=tmp_path / "p", overlay=True)
    with (tmp_path / "p" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {
        path.relative_to(one.images).as_posix() for path in one.images.rglob("*.jpg")
    }
    hits, nll = [], []
    for row in rows:
        truth = row["image"].partition("/")[0]
        hits.append(row["class"] == truth)
        nll.append(-math.log(float(row[f"p({truth})"])))
        assert float(row["p(cat)"]) + float(row["p(dog)"]) == pytest.approx(1, abs=2e-6)
        assert float(row["probability"]) == max(float(row["p(cat)"]), float(row["p(dog)"]))
        assert row["class"] == ("cat", "dog")[int(row["id"])]
    scores = judged(one)
    assert scores["top1"] == pytest.approx(np.mean(hits))
    assert scores["nll"] == pytest.approx(np.mean(nll), abs=1e-4)
    stored = np.asarray(Image.open(one.images / rows[0]["image"]))
    drawn = np.asarray(Image.open(tmp_path / "p" / "overlays" / Path(rows[0]["image"]).with_suffix(".png")))
    below = np.kron(stored, np.ones((10, 10, 1), dtype=np.uint8))  # 30 pixels across, a panel has 320
    np.testing.assert_array_equal(drawn[-len(below) :, : below.shape[1]], below, "the image, not its crop")
    assert 0 < len(drawn) - len(below) < 20 and drawn[: -len(below)].any(), "the answer stands above it"


def test_boxes_judged_by_pycocotools_give_the_scores_of_eval(left: dict[str, Left], tmp_path: Path) -> None:
    one = left["detection"]
    images = sorted(str(path) for path in one.images.glob("val*.png"))
    predict_images(NAME, images, home=one.home, out=tmp_path / "p", overlay=True)
    said = COCO(str(tmp_path / "p" / "boxes.json"))
    truth = json.loads((one.home / "data" / "val.json").read_text())
    number_of = {image["file_name"]: image["id"] for image in truth["images"]}
    sizes = {image["file_name"]: (image["height"], image["width"]) for image in truth["images"]}
    for image in said.dataset["images"]:
        assert (image["height"], image["width"]) == sizes[image["file_name"]]
    names = [category["name"] for category in said.dataset["categories"]]
    records = [
        {
            "image_id": number_of[said.imgs[box["image_id"]]["file_name"]],
            "category_id": (3, 5, 90)[box["category_id"]],
            "bbox": box["bbox"],
            "score": box["score"],
        }
        for box in said.dataset["annotations"]
    ]
    assert names == ["disc", "bar", "cross"] and len(records) > 20
    stated = COCO(str(one.home / "data" / "val.json"))
    counting = COCOeval(stated, stated.loadRes(records), "bbox")
    counting.evaluate(), counting.accumulate(), counting.summarize()
    scores = judged(one)
    assert scores["ar100"] > 0, "a score that could not differ"
    assert counting.stats[0] == pytest.approx(scores["ap"], abs=1e-12)
    assert counting.stats[8] == pytest.approx(scores["ar100"], abs=1e-12)


# ---- what is asked for


def refused(one: Left, tmp_path: Path, kind: type[Exception], *images: str) -> str:
    with pytest.raises(kind) as caught:
        predict_images(NAME, images, home=one.home, out=tmp_path / "p")
    assert not (tmp_path / "p").exists() and not list(tmp_path.glob(".p*")), "nothing half-written stays"
    return str(caught.value)


def test_images_that_are_not_there_or_none_are_said(left: dict[str, Left], tmp_path: Path) -> None:
    one = left["segmentation"]
    assert refused(one, tmp_path, Missing, str(tmp_path / "no.jpg")) == (
        f"there is no such image or folder\n  where: {tmp_path}/no.jpg\n  fix:   name one that is there"
    )
    (tmp_path / "e").mkdir()
    assert refused(one, tmp_path, Missing, str(tmp_path / "e")) == (
        f"the folder holds no images\n  where: {tmp_path}/e\n"
        "  fix:   name a folder with files of .jpg, .jpeg, .png, or the files themselves"
    )
    (tmp_path / "a.bmp").write_bytes(b"BM")
    assert refused(one, tmp_path, BadOption, str(tmp_path / "a.bmp")) == (
        "'a.bmp' is no image that is read: its name ends in none of .jpg, .jpeg, .png\n"
        f"  where: {tmp_path}/a.bmp\n  fix:   convert it to JPEG or PNG"
    )
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    said = refused(one, tmp_path, BadSample, str(tmp_path / "torn.png"))
    assert "torn" in said and "fix:   leave it out of the images named" in said and "kdcache" not in said


def test_all_bad_images_are_named_and_left_out_when_that_is_asked(
    left: dict[str, Left], tmp_path: Path
) -> None:
    one, bad = left["segmentation"], [tmp_path / "a.png", tmp_path / "b.jpg"]
    good = sorted(one.images.iterdir())[0]
    bad[0].write_bytes(good.read_bytes()[:60])
    bad[1].write_bytes(b"no picture")
    words = [str(bad[0]), str(good), str(bad[1])]
    said = refused(one, tmp_path, BadSample, *words)
    assert said.startswith("2 images cannot be read; ") and f"where: {bad[0]}, {bad[1]}\n" in said
    assert said.endswith("fix:   leave them out of the images named; --skip-bad goes on without them")
    done = predict_images(NAME, words, home=one.home, out=tmp_path / "q", skip_bad=True)
    assert done.skipped == tuple(bad) and done.num_images == 1
    assert [path.stem for path in (tmp_path / "q" / "masks").iterdir()] == [good.stem]


def test_masks_have_the_colours_of_the_datas_classes(
    left: dict[str, Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = left["segmentation"]
    monkeypatch.setattr(predict, "shown_colours", lambda described: ((10, 20, 30), None, (255, 128, 1)))
    image = sorted(one.images.iterdir())[0]
    predict_images(NAME, [str(image)], home=one.home, out=tmp_path / "p", overlay=True)
    with Image.open(tmp_path / "p" / "masks" / f"{image.stem}.png") as mask:
        assert mask.getpalette()[:9] == [10, 20, 30, *class_colour(1), 255, 128, 1]
    assert "2,thing,255,128,1" in (tmp_path / "p" / "classes.csv").read_text()


def test_classes_have_the_colours_of_their_table_in_mask_list_overlay_and_legend(tmp_path: Path) -> None:
    """As classes.toml of the data says them, by a run that names these data."""
    one = left_run(tmp_path / "home", "segmentation")
    own = {"sky": (70, 130, 180), "ground": (128, 64, 128), "thing": (220, 20, 60)}
    table = "".join(
        f'[[class]]\nname = "{name}"\nid = {number}\ncolour = {list(colour)}\n'
        for number, (name, colour) in enumerate(own.items())
    )
    (one.home / "data" / "classes.txt").unlink()
    (one.home / "data" / "classes.toml").write_text(f"{table}[ignore]\nid = 255\n")
    image = sorted(one.images.iterdir())[0]
    predict_images(NAME, [str(image)], home=one.home, out=tmp_path / "p", overlay=True)
    mask = Image.open(tmp_path / "p" / "masks" / f"{image.stem}.png")
    assert mask.getpalette()[:9] == [part for colour in own.values() for part in colour]
    with (tmp_path / "p" / "classes.csv").open() as file:
        listed = {
            row["class"]: tuple(int(row[part]) for part in ("red", "green", "blue"))
            for row in csv.DictReader(file)
        }
    assert listed == own
    said, colours = np.asarray(mask), np.array(list(own.values()))
    drawn = np.asarray(Image.open(tmp_path / "p" / "overlays" / f"{image.stem}.png")).astype(int)
    pixels = np.asarray(Image.open(image).convert("RGB")).astype(int)
    mixed = drawn[: len(said), : said.shape[1]]
    assert np.abs(mixed - (pixels + colours[said]) / 2).max() <= 1
    for place, number in enumerate(np.unique(said)):
        np.testing.assert_array_equal(drawn[len(said) + 16 * place + 8, 8], colours[number])


def test_two_images_of_one_name_are_said_and_one_named_twice_is_one(
    left: dict[str, Left], tmp_path: Path
) -> None:
    one = left["segmentation"]
    first = sorted(one.images.iterdir())[0]
    other = tmp_path / first.name
    other.write_bytes(first.read_bytes())
    said = refused(one, tmp_path, BadSample, str(first), str(other))
    assert said == (
        f"two images have the name '{first.stem}', and answers are named after images\n"
        f"  where: {first} and {other}\n"
        "  fix:   predict them with two commands, or rename one of the two"
    )
    twice = predict_images(NAME, [str(first), str(first)], home=one.home, out=tmp_path / "q")
    assert twice.num_images == 1


def test_nothing_is_written_over_a_folder_that_holds_something(left: dict[str, Left], tmp_path: Path) -> None:
    one, out = left["segmentation"], tmp_path / "p"
    out.mkdir()
    image = str(sorted(one.images.iterdir())[0])
    predict_images(NAME, [image], home=one.home, out=out)  # an empty one is taken
    before = sorted(path.name for path in out.rglob("*"))
    with pytest.raises(BadOption) as caught:
        predict_images(NAME, [image], home=one.home, out=out)
    assert str(caught.value) == (
        f"'p' is there already, and nothing is written over it\n  where: --out {out}\n"
        "  fix:   choose another --out, or move away what is there"
    )
    assert sorted(path.name for path in out.rglob("*")) == before


def test_answers_that_are_no_numbers_are_no_masks(tmp_path: Path) -> None:
    one = left_run(tmp_path / "home", "segmentation")
    one.network.model.get_submodule("segmentation_head.0").bias.data[0] = math.nan  # type: ignore[index, operator, union-attr]
    save_run_network(one.run_dir, one.network, read_run_card(one.run_dir))
    image = sorted(one.images.iterdir())[0]
    assert refused(one, tmp_path, NotFinite, str(image)) == (
        f"the student answers infinity or NaN for '{image.stem}'\n  where: prediction\n"
        "  fix:   train it again under another --run: such a student is no network that can be used"
    )
