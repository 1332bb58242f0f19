"""The size of a crop as a user writes it."""

from kdcache.cache.errors import BadOption

# What commands say of --crop, and of what it is when nobody gives one.
HELP = "H,W or one number, pixels."
SAID = "the dataset's or the cache's"


def parse_crop(text: str) -> tuple[int, int]:
    """'360' -> (360, 360); '360,480' or '360x480' -> (360, 480): height before width, pixels. Raises
    BadOption."""
    words = text.lower().replace("x", ",").split(",")
    if len(words) > 2 or not all(word.strip().isdecimal() for word in words):
        raise BadOption(
            f"--crop cannot be {text}",
            where=f"--crop {text}",
            fix="give H,W in pixels, such as 360,480, or one number for a square",
        )
    sizes = [int(word) for word in words]
    return sizes[0], sizes[-1]
