"""The page of a report: what it says, that names cannot break it, and that a browser draws all of it from the
file alone."""

import base64
import builtins
import html
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, opened
from cache_scene import Scene
from click.testing import CliRunner
from PIL import Image
from tiny_folder import draw_folder
from written_runs import write_run

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.record.manifest import read_manifest
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench.page import report
from kdcache.trainer.bench.page.examples import differing, spread_evenly
from kdcache.trainer.bench.page.report import report_html
from kdcache.trainer.bench.score_table import table_of

EVIL = ("</script><b>", "<img src=x onerror=alert(1)>", "a&amp;\u202eb\"'")
SEEN = ("</script><b>", "<img src=x onerror=alert(1)>", "a&amp;\\u202eb\"'")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two losses of two seeds, a failed run, on drawn data whose classes have such names, with a cache."""
    root = tmp_path_factory.mktemp("home")
    scene = Scene(root, "zarr")
    for split, count in (("train", 7), ("val", 6)):
        draw_folder(scene.data, count, split=split)
    (scene.data / "classes.txt").write_text("\n".join(EVIL) + "\n")
    build_cache(scene.options())
    common: dict[str, Any] = {"classes": EVIL, "of": f"folder:{scene.data}", "cache": scene.cache.name}
    for seed in (0, 1):
        write_run(root, f"none{seed}", 0.5 + seed / 10, loss="none", seed=seed, **common)
        write_run(root, f"kd{seed}", 0.52 + seed * 0.11, seed=seed, **common)
    write_run(root, "evil<i>", 0.4, loss="kd(T='</pre><script>')", **common)
    write_run(root, "half", 0.4, loss="cwd", finished=False, **common)
    return root


@pytest.fixture(scope="module")
def page(home: Path) -> str:
    return report_html(home, table_of(home, [], None), with_analysis=True)


class Read(HTMLParser):
    """Tags, their attributes, and the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def test_names_from_data_and_options_are_text_and_no_markup(page: str) -> None:
    read = Read(page)
    for name in SEEN:
        assert name in read.text
    assert "kd(T='</pre><script>')" in read.text and "\u202e" not in page
    assert not {"b", "i"} & set(read.tags) - {"b", "i"} and "onerror" not in dict(read.attributes)
    assert [tag for tag in read.tags if tag in ("link", "iframe", "object", "base")] == []


def test_nothing_is_fetched(page: str) -> None:
    sources = [value for name, value in Read(page).attributes if name in ("src", "href") and value]
    assert sources and all(value.startswith(("data:image/", "#")) for value in sources)
    assert "default-src 'none'" in page


def test_plotlys_script_is_there_once(page: str) -> None:
    assert page.count("plotly.js v") == 1 and 4e6 < len(page) < 8e6


def test_the_table_and_what_is_missing_stand_in_the_page(page: str) -> None:
    text = Read(page).text
    for said in (
        "one seed",  # of the odd kd
        "run 'half' has no score: stopped (step ",
        "not distinguishable from none",
        "+2.50",  # kd - none of both seeds
        "14images through the teacher, once",
        "480without the cache, in 3 runs",
        "run 1break-even",
        "kdtrain --run kd0",
        "--cache",
    ):
        assert said in text, said


def test_the_commands_of_a_cache_make_one_of_equal_identity_views_and_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be typed of a cache is off its default here; it grew by views and by a target."""
    scene = Scene(tmp_path / "a", "zarr")
    draw_folder(scene.data, 4)
    draw_folder(scene.data, 2, split="val")
    monkeypatch.setenv("KDCACHE_HOME", str(scene.root))
    recipe = "scale=0.75x1.5,jitter=0.2"
    first = {
        "views": "full+crops:1",
        "mirror": True,
        "augment": recipe,
        "seed": 7,
        "amp": "bf16",
        "zstd": True,
    }
    tapped = (parse_tap("stage4@stage4.0=int8"),)
    made = build_cache(scene.options(**first, split="val", taps=tapped, output_stride=16))
    for changes in ({"views": "crops:3"}, {"taps": (parse_tap("logits=fp16"),)}):
        grown = {"views": None, "crop": None, "target_format": None, "taps": (), "split": "val", **changes}
        build_cache(scene.options(cache=made.root, teacher=None, data=None, **grown))
    write_run(scene.root, "kd", 0.5, cache=made.root.name, of=f"folder:{scene.data}")
    shown = re.findall(
        r"<pre>(kdcache build .*?)</pre>", report_html(scene.root, table_of(scene.root, [], None)), re.S
    )
    commands = [shlex.split(one) for one in html.unescape(shown[0]).splitlines()]
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "b"))
    for words in commands:
        done = CliRunner().invoke(kdcache, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    then, now = read_manifest(made.root), read_manifest(tmp_path / "b" / "caches" / made.root.name)
    assert [views.kind for views in then.views] == ["full", "mirror", "crops", "crops"]
    assert now.identity == then.identity and now.views == then.views
    assert {tap.name: tap for tap in now.taps} == {tap.name: tap for tap in then.taps}
    assert (now.target_format, now.zstd) == (then.target_format, then.zstd)


def test_pictures_are_of_image_truth_teacher_every_row_and_where_they_differ(page: str) -> None:
    shown = [value for name, value in Read(page).attributes if name == "alt"]
    assert len(shown) == 4 * 7
    assert shown[:7] == [
        "image",
        "truth",
        "teacher",
        "none",
        "kd(T='</pre><script>')",
        "kd",
        "where the answers differ",
    ]
    encoded = re.findall(r'alt="truth" src="data:image/png;base64,([^"]+)"', page)
    truth = np.asarray(Image.open(BytesIO(base64.b64decode(encoded[0]))).convert("RGB"))
    assert len(np.unique(truth.reshape(-1, 3), axis=0)) == 4, "three classes and what is ignored"


def test_where_pictures_differ_is_what_not_all_show_alike() -> None:
    image = np.full((2, 3, 3), 100, dtype=np.uint8)
    one, other = np.zeros_like(image), np.zeros_like(image)
    other[1, 2] = 9
    shown = differing(image, [one, one, other])
    assert (shown[1, 2] != shown[0, 0]).any() and (shown.reshape(-1, 3)[:5] == shown[0, 0]).all()


def test_examples_are_spread_and_never_more_than_there_are() -> None:
    assert spread_evenly(100, 4) == [12, 37, 62, 87] and spread_evenly(2, 4) == [0, 1]


def test_data_that_are_gone_leave_a_report_without_pictures(home: Path, tmp_path: Path) -> None:
    write_run(tmp_path, "none", 0.5, loss="none", of="folder:/nowhere")
    write_run(tmp_path, "kd", 0.6, of="folder:/nowhere")
    text = Read(report_html(tmp_path, table_of(tmp_path, [], None), with_analysis=True)).text
    assert "no pictures: " in text and "cache 'cache' is left out of the ledger" in text and "+10.00" in text


def test_without_plotly_the_extra_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    said = CliRunner().invoke(kdtrain, ["report", "nobody"])
    assert said.exit_code == 2
    assert said.stderr == (
        "error: a report is drawn by plotly, and plotly is not installed\n  where: kdtrain report\n"
        "  fix:   pip install 'kdcache[report]'; 'kdtrain compare' shows the same table in the terminal\n"
    )


def test_nothing_else_of_the_bench_needs_plotly(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        assert not name.startswith("plotly"), "compare imports plotly"
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("KDCACHE_HOME", str(home))
    assert CliRunner().invoke(kdtrain, ["compare"], catch_exceptions=False).exit_code == 0


@pytest.fixture(scope="module")
def file(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    yield path


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_draws_everything_without_an_error_a_network_or_a_sideways_scroll(
    file: Path, width: int
) -> None:
    with opened(file, width) as shown:
        drawings = shown.value("document.querySelectorAll('.plotly-graph-div').length")
        shown.wait_for(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {drawings}")
        empty = "filter(d => !d.querySelector('.trace, .point')).length"
        assert (
            drawings >= 6 and shown.value(f"[...document.querySelectorAll('.js-plotly-plot')].{empty}") == 0
        )
        broken = "[...document.images].filter(i => !i.complete || i.naturalWidth == 0).length"
        assert shown.value(broken) == 0 and shown.value("document.images.length") == 28
        assert shown.value("document.documentElement.scrollWidth - window.innerWidth") <= 0
        wide = "filter(d => d.getBoundingClientRect().right > innerWidth).length"
        assert shown.value(f"[...document.querySelectorAll('.drawing')].{wide}") == 0
        beside = "[...document.images].filter(i => i.getBoundingClientRect().right > innerWidth).length"
        assert shown.value(beside) == 0, "no picture is out of sight"
        tops = "[...e.querySelectorAll('img')].map(i => Math.round(i.getBoundingClientRect().top))"
        first = f"(e => {tops})(document.querySelector('.example'))"
        assert shown.value(first)[0] == shown.value(first)[1], "pictures of one line stand in line"
        titles = "document.querySelectorAll('.xtitle, .ytitle, .xtick text')"
        inside = "r => r.left >= 0 && r.right <= document.documentElement.clientWidth"
        cut = f"[...{titles}].map(t => t.getBoundingClientRect()).filter(r => !({inside})(r)).length"
        assert shown.value(cut) == 0, "axes are named in full"
        named = "document.querySelectorAll('.legendtext, .ytick, .xtick')"
        labels = shown.value(f"[...{named}].map(t => t.textContent)")
        assert SEEN[0] in labels and "kd(T='</pre><script>')" in labels, "plotly shows names as they are"
        assert shown.said == [] and shown.fetched == []
