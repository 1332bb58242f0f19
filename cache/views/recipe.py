"""A recipe: the text that says which random numbers a view draws, 'rrc=0.08,flip,jitter=0.4,mixup=0.2'.

scale=LOWxHIGH         segmentation: a scale of the whole image, then a crop of the input size
fit=LOWxHIGH, fit=1    detection: likewise, the scale relative to the largest size that the input holds whole
rrc, rrc=AREA          a region of at least AREA (0.08) of the image, aspect 3/4 to 4/3, resized to the input
pad=N                  N pixels of padding on every side, then a crop of the input size
flip                   left-right, half of the time
randaugment=NxM        N of 14 operations at magnitude M of 0..30
jitter=B, jitter=BxCxSxH   brightness, contrast, saturation within 1 +- their number (B for all three), hue
                       within +-H turns (0), in random order
erase=P                with probability P a rectangle of 2 % to 33 % of the image becomes padding
mixup=A, cutmix=A      another sample of the shard is mixed in, the own share drawn from Beta(A, A); with
                       both, one of them at even odds
none                   nothing: classification shows the centre, segmentation crops at scale 1, detection
                       shows the whole image

Without `rrc` and `pad` a classification image is shown as in evaluation: as it is when it has the input
size, else its centre. Whatever the text's order, operations happen in this order.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.spec import RecipeRules
from kdcache.cache.views.view import FIT_VERSION, VIEW_VERSION

_GEOMETRIES = ("scale", "fit", "rrc", "pad")
_FORMS = (
    "legal items: scale=LOWxHIGH, fit=LOWxHIGH, rrc or rrc=MINAREA, pad=N, flip, randaugment=NxM, jitter=B or "
    "jitter=BxCxSxH, erase=P, mixup=ALPHA, cutmix=ALPHA, or 'none' alone"
)
_LIMITS: dict[str, tuple[tuple[float, float], ...]] = {  # item -> (lowest, highest) of each of its numbers
    "scale": ((0.01, 100), (0.01, 100)),
    "fit": ((0.01, 100), (0.01, 100)),
    "rrc": ((0.001, 1),),
    "pad": ((1, 1000),),
    "randaugment": ((1, 14), (0, 30)),
    "jitter": ((0, 2), (0, 2), (0, 2), (0, 0.5)),
    "erase": ((0.001, 1),),
    "mixup": ((0.01, 2),),
    "cutmix": ((0.01, 2),),
}
_WHOLE = ("pad", "randaugment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is drawn for a view; None: the item is not in the recipe. Fields in the order of the text."""

    scale: tuple[float, float] | None = None  # lowest and highest
    fit: tuple[float, float] | None = None  # likewise, of the largest size that the input holds
    rrc: float | None = None  # smallest share of the image's area
    pad: int | None = None  # pixels on every side
    flip: bool = False
    randaugment: tuple[int, int] | None = None  # operations, magnitude of 30
    jitter: tuple[float, float, float, float] | None = None  # brightness, contrast, saturation, hue
    erase: float | None = None  # probability
    mixup: float | None = None  # alpha
    cutmix: float | None = None

    @property
    def mixes(self) -> bool:
        return self.mixup is not None or self.cutmix is not None

    @property
    def version(self) -> int:
        """Of the views that it draws."""
        return VIEW_VERSION if self.fit is None else FIT_VERSION

    @property
    def text(self) -> str:
        """The canonical text: equal recipes have equal texts."""
        return ",".join(_item(name, value) for name, value in self.drawn.items()) or "none"

    @property
    def drawn(self) -> dict[str, Any]:
        """Item -> value of those that are in the recipe."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, False)}


def parse_recipe(text: str, rules: RecipeRules, *, where: str = "--augment") -> Recipe:
    """The recipe of a text under a task's rules; '' is the task's default. Raises BadOption for an item that
    is not known, twice, out of its limits, or that the task cannot have."""
    recipe = read_recipe(text.strip() or rules.default, where)
    if wrong := [name for name in recipe.drawn if name not in rules.items]:
        raise BadOption(rules.refusal.format(items=", ".join(wrong)), where=f"{where} {text}", fix=rules.fix)
    return replace(recipe, **{name: v for name, v in rules.always.items() if name not in recipe.drawn})


@lru_cache(maxsize=64)
def read_recipe(text: str, where: str = "--augment") -> Recipe:
    """The recipe of a text whatever the task. Raises BadOption as `parse_recipe`."""
    values: dict[str, Any] = {}
    items = [item.strip() for item in text.split(",")]
    if items == ["none"]:
        return Recipe()
    for item in items:
        name, equals, given = item.partition("=")
        if name not in {f.name for f in fields(Recipe)}:
            raise unknown("augmentation", name, _LIMITS.keys() | {"flip", "none"}, where=f"{where} {text}")
        if name in values:
            raise BadOption(f"{name} twice", where=f"{where} {text}", fix="name each item once")
        values[name] = _read(name, given if equals else None, f"{where} {text}")
    if len(several := [name for name in _GEOMETRIES if name in values]) > 1:
        raise BadOption(
            f"{' and '.join(several)} both choose what is shown",
            where=f"{where} {text}",
            fix=f"keep one of them; {_FORMS}",
        )
    return Recipe(**values)


def _read(name: str, given: str | None, where: str) -> Any:
    """The value of one item: its numbers, checked against their limits."""
    if name == "flip" and given is None:
        return True
    if name == "rrc" and given is None:
        return 0.08
    limits = _LIMITS.get(name, ())
    try:
        numbers = [float(word) for word in (given or "").split("x")]
    except ValueError:
        numbers = []
    if name == "jitter" and len(numbers) == 1:
        numbers = [*numbers * 3, 0.0]
    if name == "fit" and len(numbers) == 1:
        numbers *= 2
    whole = all(n.is_integer() for n in numbers) or name not in _WHOLE
    inside = all(low <= n <= high for n, (low, high) in zip(numbers, limits, strict=False))
    if len(numbers) != len(limits) or not limits or not whole or not inside:
        ranges = " and ".join(f"{low:g}..{high:g}" for low, high in limits) or "no number"
        item = name if given is None else f"{name}={given}"
        raise BadOption(f"'{item}' takes {ranges}", where=where, fix=_FORMS)
    if name in ("scale", "fit") and numbers[0] > numbers[1]:
        raise BadOption(f"'{name}={given}' ends below its start", where=where, fix=_FORMS)
    values = tuple(int(n) if name in _WHOLE else n for n in numbers)
    return values if len(limits) > 1 else values[0]


def _item(name: str, value: Any) -> str:
    if value is True:
        return name
    return f"{name}={'x'.join(f'{n:g}' for n in (value if isinstance(value, tuple) else (value,)))}"
