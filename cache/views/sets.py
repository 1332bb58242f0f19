"""Which views a cache has, and a sample's view in each: sets of crops, the whole image as it is or fitted
onto a canvas, its mirror image.

Views have global numbers 0, 1, ... over all sets; a set never changes once it exists, a cache grows by
further sets. Their numbers are drawn in `draw`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from json import dumps
from typing import Any

from kdcache.cache.errors import BadCache, BadOption, nearest
from kdcache.cache.spec import ViewRules
from kdcache.cache.views.draw import MAX_SCALE, MIN_SCALE, QUARTERS, draw_view, fit_view
from kdcache.cache.views.recipe import Recipe, read_recipe
from kdcache.cache.views.view import FIT_VERSION, MIN_SHARE, MIN_SIDE_PX, VIEW_VERSION, View
from kdcache.cache.views.words import Words, endless

MOST_VIEWS = 65_536  # of one sample
DRAWN = ("crops", "turns")  # kinds that draw random numbers, and have a crop
FULL, FIT = "full", "fit"
MIRROR_OF = {FULL: "mirror", FIT: "fit-mirror"}  # the whole image -> the kind that flips it
_KINDS = (*DRAWN, *MIRROR_OF, *MIRROR_OF.values())
ANY_VIEWS = ViewRules(kinds=(*DRAWN, *MIRROR_OF))
PLAIN = Recipe(scale=(MIN_SCALE, MAX_SCALE), flip=True)  # what crops draw when nobody says
_WRITTEN = (  # fields of a set in a manifest
    *("kind", "first", "count", "crop", "seed"),
    *("min_scale", "max_scale", "flip", "draw_first", "augment"),
)
_LEGAL = (
    f"legal forms: 'crops:K' (K from 1 to {MOST_VIEWS}), 'full', or both joined by '+', as in "
    "'crops:8+full'; 'turns:K' for classification, K draws in four turns each; 'fit' for detection, "
    "alone or with crops"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSet:
    """Views of one kind with consecutive global numbers `first` .. `first + count - 1`.

    kind 'crops': random crops; the number that is drawn with is `draw_first` + place in the set, so that a
    set which continues another one draws what one larger set would have drawn. 'full': the whole image.
    'mirror': it flipped. 'fit': the whole image as large as `crop` holds it; 'fit-mirror': it flipped.
    'turns': draws as crops, in fours: number first + 4k + r is turned by r quarters counter-clockwise; flip
    drawn once per k, the crop for each.
    """

    kind: str
    first: int
    count: int
    crop: tuple[int, int] | None = None  # (h, w) pixels; None: as large as the image
    seed: int = 0
    draw_first: int = 0
    recipe: Recipe = Recipe()  # what is drawn; the whole image draws nothing

    @property
    def draws(self) -> bool:
        """Whether random numbers decide what is shown."""
        return self.kind in DRAWN

    @property
    def augment(self) -> str:
        """The recipe's text as records name it; '' where their scale and flip say it all."""
        return "" if not self.draws or _is_plain(self.recipe) else self.recipe.text

    def view(
        self,
        key: str,
        number: int,
        height: int,
        width: int,
        partners: Sequence[str] = (),
        words: Words = endless,
    ) -> View:
        """The view with global number `number` of a sample whose image is `height` x `width` pixels.

        `partners`: keys of the valid samples of its shard, of which a recipe that mixes takes another one.
        """
        assert self.first <= number < self.first + self.count, f"view {number} is not in {self}"
        if self.kind == FULL:
            return View(())
        if self.kind == MIRROR_OF[FULL]:
            return View((("flip",),))
        assert self.crop is not None, "crops and canvases have a size"
        if not self.draws:
            return fit_view(height, width, self.crop, mirror=self.kind == MIRROR_OF[FIT])
        return draw_view(
            self.recipe,
            seed=self.seed,
            key=key,
            number=self.draw_first + number - self.first,
            height=height,
            width=width,
            crop=self.crop,
            turned=self.kind == "turns",
            partners=partners,
            words=words,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        plain = {
            "kind": self.kind,
            "first": self.first,
            "count": self.count,
            "crop": None if self.crop is None else list(self.crop),
            "seed": self.seed,
            **_written(self.recipe if self.draws and not self.augment else PLAIN),
            "draw_first": self.draw_first,
        }
        # As before there were recipes where there is no text: digests of such sets stay.
        return plain | {"augment": self.augment} if self.augment else plain

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> "ViewSet":
        """What `to_dict` wrote. Raises BadCache for a kind or field of a newer version, naming it."""
        strange = sorted(set(plain) - set(_WRITTEN))
        if strange or not {"kind", "first", "count"} <= set(plain) or plain["kind"] not in _KINDS:
            what = f"field '{strange[0]}'" if strange else f"kind '{plain.get('kind')}'"
            close = nearest(strange[0], _WRITTEN) if strange else None
            hint = f" (nearest known: '{close}')" if close else ""
            raise BadCache(
                f"a set of views has the unknown {what}{hint}",
                where="views of a manifest",
                fix="install a newer kdcache",
            )
        crop = plain.get("crop")
        return ViewSet(
            kind=plain["kind"],
            first=plain["first"],
            count=plain["count"],
            crop=None if crop is None else (int(crop[0]), int(crop[1])),
            seed=plain.get("seed", 0),
            draw_first=plain.get("draw_first", 0),
            recipe=_read_recipe_of(plain),
        )

    def digest(self) -> str:
        """16 hex digits over every field and the version of views: equal digests draw equal views."""
        fits = not self.draws and self.crop is not None or self.recipe.version == FIT_VERSION
        version = [FIT_VERSION, MIN_SHARE, MIN_SIDE_PX] if fits else [VIEW_VERSION]
        text = dumps([*version, self.to_dict()], sort_keys=True)
        return blake2b(text.encode(), digest_size=8).hexdigest()


def parse_views(
    text: str,
    *,
    crop: tuple[int, int] | None,
    seed: int,
    mirror: bool,
    augment: Recipe | None = None,
    rules: ViewRules = ANY_VIEWS,
) -> list[ViewSet]:
    """'crops:8', 'full', 'crops:8+full', 'turns:2', 'fit' as sets, numbered consecutively; `mirror` adds one
    after 'full' or 'fit'. `augment` is what crops and turns draw (default: scale 0.5 to 2 and flip).

    Raises BadOption naming the legal forms for anything else, for a kind that `rules` leave out, for `mirror`
    without a whole image, and for turns that cannot be.
    """
    where = f"--views {text}"
    recipe = _as_recorded(PLAIN if augment is None else augment)
    sets: list[ViewSet] = []
    for word in text.split("+"):
        kind, count = _read_word(word.strip(), where)
        if kind not in rules.kinds:
            raise BadOption(rules.refusal.format(kind=kind), where=where, fix=rules.fix)
        if crop is None and kind != FULL:
            raise BadOption("crops need a size", where=where, fix="give --crop HEIGHTxWIDTH")
        if kind in DRAWN:
            assert crop is not None
            if kind == "turns":
                check_turns(crop, augment, where)
                count *= QUARTERS
            sets.append(ViewSet(kind=kind, first=0, count=count, crop=crop, seed=seed, recipe=recipe))
        else:
            shown = None if kind == FULL else crop
            both = (kind, MIRROR_OF[kind]) if mirror else (kind,)
            sets += [ViewSet(kind=k, first=0, count=1, crop=shown) for k in both]
    _check_kinds([s.kind for s in sets], text, rules, mirror=mirror)
    return _numbered([], sets)


def _check_kinds(kinds: Sequence[str], text: str, rules: ViewRules, *, mirror: bool) -> None:
    """Raises BadOption for a kind that comes twice, and for `mirror` without a whole image."""
    where = f"--views {text}"
    if len(set(kinds)) < len(kinds):
        raise BadOption("the same kind of views twice", where=where, fix=_LEGAL)
    whole = whole_kind(rules)
    if mirror and not MIRROR_OF.keys() & set(kinds):
        raise BadOption(
            f"--mirror without the {whole} view", where=where, fix=f"--views {text}+{whole} --mirror"
        )


def whole_kind(rules: ViewRules) -> str:
    """The kind of views that shows the whole image."""
    return next(kind for kind in rules.kinds if kind in MIRROR_OF)


def extend_views(existing: Sequence[ViewSet], wanted: Sequence[ViewSet]) -> list[ViewSet]:
    """All of `existing`, unchanged, and the sets that are missing of `wanted`, with the next global numbers.

    Crops beyond those that exist become one more set that goes on drawing where they end, so a cache that
    grew from crops:8 to crops:16 holds the very crops of crops:16. Raises BadOption for crops of another
    size or drawing.
    """
    added = []
    for new in wanted:
        same = [s for s in existing if s.kind == new.kind]
        if new.kind not in DRAWN:
            added += [] if same else [new]
            continue
        for old in same:
            _check_drawn_alike(old, new)
        have = max((s.draw_first + s.count for s in same), default=0)
        if new.draw_first + new.count > have:
            added.append(replace(new, draw_first=have, count=new.draw_first + new.count - have))
    return _numbered(existing, added)


def _read_word(word: str, where: str) -> tuple[str, int]:
    """'crops:8' as ('crops', 8), 'full' as ('full', 1), 'fit' as ('fit', 1)."""
    kind, colon, count = word.partition(":")
    if word in MIRROR_OF:
        return kind, 1
    short = len(count) <= len(str(MOST_VIEWS))
    if kind in DRAWN and count.isascii() and count.isdigit() and short and 1 <= int(count) <= MOST_VIEWS:
        return kind, int(count)
    spelled = {"crops": "crops:8", "turns": "turns:2", FULL: FULL, FIT: FIT}
    close = None if colon else nearest(kind, spelled)
    hint = f"did you mean '{spelled[close]}'? " if close else ""
    raise BadOption(f"unknown views '{word}'", where=where, fix=hint + _LEGAL)


def _is_plain(recipe: Recipe) -> bool:
    """Scale and flip alone: these have fields of their own in a manifest, a recipe more is text there."""
    return recipe.scale is not None and recipe == Recipe(scale=recipe.scale, flip=recipe.flip)


def _as_recorded(recipe: Recipe) -> Recipe:
    """What a manifest gives back of a recipe: its text rounds numbers, and what was built must be drawn."""
    return recipe if _is_plain(recipe) else read_recipe(recipe.text)


def _written(plain: Recipe) -> dict[str, Any]:
    assert plain.scale is not None
    return {"min_scale": plain.scale[0], "max_scale": plain.scale[1], "flip": plain.flip}


def _read_recipe_of(plain: dict[str, Any]) -> Recipe:
    """The recipe of a set in a manifest."""
    if plain["kind"] not in DRAWN:
        return Recipe()
    if plain.get("augment"):
        return read_recipe(plain["augment"])
    scale = plain.get("min_scale", MIN_SCALE), plain.get("max_scale", MAX_SCALE)
    return Recipe(scale=scale, flip=plain.get("flip", True))


def check_turns(crop: tuple[int, int], augment: Recipe | None, where: str) -> None:
    """Raises BadOption where an image cannot be shown in four turns: not square, labels per pixel, mixed."""
    if crop[0] != crop[1]:
        raise BadOption(
            f"a crop of {crop[0]}x{crop[1]} pixels changes its size when it is turned",
            where=where,
            fix=f"use a square one, --crop {min(crop)}x{min(crop)}",
        )
    if augment is None or augment.scale or augment.mixes:
        raise BadOption(
            "turned views are for classification without mixing",
            where=f"{where} --augment {augment.text if augment else ''}",
            fix="use a recipe of rrc, pad, flip and colour, such as --augment pad=4,flip",
        )


def _check_drawn_alike(old: ViewSet, new: ViewSet) -> None:
    recorded, wanted = old.to_dict(), new.to_dict()
    for name in ("crop", "seed", "min_scale", "max_scale", "flip", "augment"):
        have, asked = recorded.get(name, ""), wanted.get(name, "")
        if have != asked:
            raise BadOption(
                f"the cache's crops have {name} {_shown(have)}, these {_shown(asked)}",
                where=f"views {old.first}..{old.first + old.count - 1} of the cache",
                fix=f"ask for {name} {_shown(have)}, or build a second cache under another folder",
            )


def _shown(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _numbered(existing: Sequence[ViewSet], added: Sequence[ViewSet]) -> list[ViewSet]:
    """`existing`, then `added` with the global numbers that follow."""
    sets = list(existing)
    for new in added:
        sets.append(replace(new, first=max((s.first + s.count for s in sets), default=0)))
    return sets
