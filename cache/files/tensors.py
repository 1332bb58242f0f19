"""The header of a safetensors file, whose length its first eight bytes claim: the library parses up to
100 MB of it, fifty times that in memory. That offsets lie within the file is the library's own check."""

from pathlib import Path

from kdcache.cache.files.regular import open_regular

COLUMNS_HEADER = 64 << 10  # a dozen arrays take one of two
WEIGHTS_HEADER = 8 << 20  # 80,000 tensors of a network


def check_header(start: bytes | memoryview, num_bytes: int, most: int) -> None:
    """`start` is at least the first eight bytes of a file of `num_bytes`. Raises ValueError."""
    length = int.from_bytes(bytes(start[:8]), "little")
    if len(start) < 8 or length > num_bytes - 8:
        raise ValueError(f"it has {num_bytes} bytes, too few for its header")
    if length > most:
        raise ValueError(f"its header has {length} bytes, at most {most} are read")


def check_tensor_file(path: Path, most: int = WEIGHTS_HEADER) -> None:
    """Raises OSError, or ValueError for a file that is no regular one or whose header is too long."""
    with open_regular(path) as file:
        check_header(file.read(8), path.stat().st_size, most)
