"""The size of a crop as a user writes it."""

from kdcache.cache.errors import BadOption

# What commands say of --crop, and of what it is when nobody gives one.
HELP = "H,W or one number, pixels."
SAID = "the dataset's or the cache's"
MOST_SIDE = 8192  # pixels; one such square is 200 MB before any network has seen it


def parse_crop(text: str) -> tuple[int, int]:
    """'360' -> (360, 360); '360,480' or '360x480' -> (360, 480): height before width, pixels. Raises
    BadOption for a text of another form, and for sides that are no size."""
    words = text.lower().replace("x", ",").split(",")
    sizes = [_side(word.strip()) for word in words]
    if len(words) > 2 or not all(sizes):
        raise BadOption(
            f"--crop cannot be {text}",
            where=f"--crop {text}",
            fix=f"give H,W in pixels up to {MOST_SIDE}, such as 360,480, or one number for a square",
        )
    return sizes[0], sizes[-1]


def _side(word: str) -> int:
    """Pixels of one side; 0 where the word is none. Python does not read numbers of thousands of digits."""
    if not word.isdecimal() or len(word) > len(str(MOST_SIDE)):
        return 0
    return int(word) if int(word) <= MOST_SIDE else 0
