"""Views that put an image onto a canvas: whole, mirrored, and in crops at a scale relative to the whole."""

from dataclasses import replace

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import RecipeRules, ViewRules
from kdcache.cache.views import sets, view
from kdcache.cache.views.draw import draw_crop, draw_view, fit_view
from kdcache.cache.views.recipe import Recipe, parse_recipe, read_recipe
from kdcache.cache.views.sets import ViewSet, extend_views, parse_views
from kdcache.cache.views.view import Geometry

CANVAS = (96, 160)
RULES = ViewRules(kinds=("crops", "fit"), refusal="no {kind} here", fix="use fit")


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((96, 160), (96, 160)),
        ((480, 640), (96, 128)),  # height decides
        ((100, 400), (40, 160)),  # width decides
        ((10, 20), (80, 160)),  # smaller images grow
        ((333, 500), (96, 144)),  # 144.14
        ((1, 4000), (1, 160)),  # at least a pixel
    ],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_the_whole_image_lies_at_the_top_left_as_large_as_it_fits(
    size: tuple[int, int], resized: tuple[int, int], mirror: bool
) -> None:
    geometry = fit_view(*size, CANVAS, mirror=mirror).geometry(*size)
    assert geometry == Geometry(*resized, int(mirror), 0, 0, *CANVAS)


def test_crops_at_the_fitting_scale_are_the_whole_image() -> None:
    for size in ((480, 640), (333, 500), (37, 512), (640, 333)):
        for number in range(8):
            drawn = draw_view(
                Recipe(fit=(1.0, 1.0)),
                seed=0,
                key="a",
                number=number,
                height=size[0],
                width=size[1],
                crop=CANVAS,
            )
            assert drawn == fit_view(*size, CANVAS)


def test_a_relative_scale_draws_as_an_absolute_one_of_the_same_size() -> None:
    """The numbers are those of segmentation's crops: a scale, a corner and a coin."""
    told = {"seed": 3, "key": "b", "height": 480, "width": 640, "crop": CANVAS}
    for number in range(20):
        drawn = draw_view(Recipe(fit=(0.5, 2.0), flip=True), number=number, **told)  # type: ignore[arg-type]
        crop = draw_crop(number=number, min_scale=0.1, max_scale=0.4, **told)  # type: ignore[arg-type]
        assert drawn == crop


def test_scales_reach_both_ends_and_images_of_all_sizes_alike() -> None:
    for size in ((480, 640), (60, 80), (100, 400)):
        factors = []
        for number in range(200):
            drawn = draw_view(
                Recipe(fit=(0.5, 2.0)),
                seed=0,
                key="c",
                number=number,
                height=size[0],
                width=size[1],
                crop=CANVAS,
            ).geometry(*size)
            factors.append(max(drawn.resize_h / CANVAS[0], drawn.resize_w / CANVAS[1]))
        assert 0.49 <= min(factors) < 0.55 and 1.9 < max(factors) <= 2.01


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("fit=1", "fit=1x1"), ("fit=0.7x1.5,flip", "fit=0.7x1.5,flip"), ("flip,fit=2", "fit=2x2,flip")],
)
def test_the_item_is_written_with_one_number_or_two(text: str, canonical: str) -> None:
    recipe = read_recipe(text)
    assert recipe.text == canonical and read_recipe(recipe.text) == recipe
    assert recipe.version == view.FIT_VERSION and read_recipe("scale=1x2").version == view.VIEW_VERSION


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fit", "'fit' takes 0.01..100 and 0.01..100"),
        ("fit=0x1", "'fit=0x1' takes"),
        ("fit=1x2x3", "'fit=1x2x3' takes"),
        ("fit=2x1", "'fit=2x1' ends below its start"),
        ("fit=1,scale=1x2", "scale and fit both choose what is shown"),
        ("fit=1,rrc", "fit and rrc both choose what is shown"),
    ],
)
def test_an_item_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        read_recipe(text)
    assert said in caught.value.what and "fit=LOWxHIGH" in caught.value.fix


def test_a_task_adds_the_fitting_scale_where_a_text_leaves_it_out() -> None:
    rules = RecipeRules("fit=1,flip", ("fit", "flip"), "{items} no", "fix", {"fit": (1.0, 1.0)})
    assert parse_recipe("", rules).text == "fit=1x1,flip" and parse_recipe("none", rules).text == "fit=1x1"
    assert parse_recipe("flip,fit=0.5x2", rules).text == "fit=0.5x2,flip"


# ---- sets ----------------------------------------------------------------------------------------------


def parsed(text: str, *, mirror: bool = False, rules: ViewRules = RULES) -> list[ViewSet]:
    return parse_views(text, crop=CANVAS, seed=0, mirror=mirror, augment=Recipe(fit=(0.5, 2.0)), rules=rules)


def test_a_whole_image_and_its_mirror_image_are_two_views() -> None:
    fit, mirrored = parsed("fit", mirror=True)
    assert [(s.kind, s.first, s.count, s.crop) for s in (fit, mirrored)] == [
        ("fit", 0, 1, CANVAS),
        ("fit-mirror", 1, 1, CANVAS),
    ]
    assert fit.view("a", 0, 480, 640) == fit_view(480, 640, CANVAS)
    assert mirrored.view("b", 1, 480, 640) == fit_view(480, 640, CANVAS, mirror=True)
    assert [s.kind for s in parsed("fit")] == ["fit"]
    assert [(s.kind, s.first) for s in parsed("crops:3+fit", mirror=True)] == [
        ("crops", 0), ("fit", 3), ("fit-mirror", 4)
    ]  # fmt: skip


def test_sets_come_back_from_a_manifest_as_they_went() -> None:
    for one in parsed("fit+crops:2", mirror=True):
        assert ViewSet.from_dict(one.to_dict()) == one


def test_a_cache_grows_by_the_whole_image_once() -> None:
    crops = parsed("crops:3")
    grown = extend_views(crops, parsed("fit", mirror=True))
    assert [(s.kind, s.first) for s in grown] == [("crops", 0), ("fit", 3), ("fit-mirror", 4)]
    assert extend_views(grown, parsed("fit", mirror=True)) == grown
    assert extend_views(parsed("fit"), parsed("fit", mirror=True))[1].kind == "fit-mirror"


def test_what_is_seen_of_an_object_is_part_of_what_a_view_is(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, crops = parsed("fit+crops:2")
    full = ViewSet(kind="full", first=0, count=1)
    scaled = replace(crops, recipe=Recipe(scale=(0.5, 2.0), flip=True))
    before = [one.digest() for one in (fit, crops, full, scaled)]
    for name in ("MIN_SHARE", "MIN_SIDE_PX", "FIT_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(sets, name, 7)
            if name == "FIT_VERSION":
                patch.setattr("kdcache.cache.views.recipe.FIT_VERSION", 7)
            after = [one.digest() for one in (fit, crops, full, scaled)]
        assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, True, True]


def test_a_kind_that_a_task_does_not_have_is_refused_in_its_words() -> None:
    for word in ("full", "turns:2"):
        with pytest.raises(BadOption) as caught:
            parsed(f"fit+{word}")
        assert caught.value.what == f"no {word.partition(':')[0]} here" and caught.value.fix == "use fit"
    with pytest.raises(BadOption) as caught:
        parsed("fit", rules=ViewRules())
    assert caught.value.what == "'fit' is no kind of views for these data"
    assert "--views crops:8+full" in caught.value.fix


def test_a_mirror_needs_the_whole_image_of_its_task() -> None:
    with pytest.raises(BadOption) as caught:
        parsed("crops:2", mirror=True)
    assert caught.value.what == "--mirror without the fit view"
    assert caught.value.fix == "--views crops:2+fit --mirror"
    with pytest.raises(BadOption, match="--mirror without the full view"):
        parsed("crops:2", mirror=True, rules=ViewRules())


def test_a_canvas_has_a_size_and_comes_once() -> None:
    with pytest.raises(BadOption, match="crops need a size"):
        parse_views("fit", crop=None, seed=0, mirror=False)
    with pytest.raises(BadOption, match="the same kind of views twice"):
        parsed("fit+fit")
    with pytest.raises(BadOption) as caught:
        parsed("fits")
    assert "did you mean 'fit'?" in caught.value.fix
