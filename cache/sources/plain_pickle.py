"""Read the pickles of CIFAR without running anything that they name.

A pickle may name any function to be called. Here names are not looked up at all: the four that make a numpy
array are replaced by inert stand-ins that only keep what they are given, every other name is refused. No
numpy code sees a value from the file before its type and size were checked.
"""

import io
import pickle
from typing import Any

import numpy as np

from kdcache.cache.files.pickled import check_pickle

_UINT8 = ("u1", "|u1", "B")


class _Dtype:
    """Stands for numpy.dtype: keeps the name of the type."""

    __slots__ = ("text",)

    def __init__(self, text: object, *_: object) -> None:
        self.text = text.decode("latin-1") if isinstance(text, bytes) else text

    def __setstate__(self, state: object) -> None:
        pass  # byte order and alignment: nothing that one byte has


class _Array:
    """Stands for an array: keeps shape, type and bytes until all of the file was read."""

    __slots__ = ("dtype", "raw", "shape")

    def __init__(self, *_: object) -> None:
        self.shape, self.dtype, self.raw = (), None, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        if fortran:
            raise pickle.UnpicklingError("an array in Fortran order")

    def value(self) -> np.ndarray:
        text = self.dtype.text if isinstance(self.dtype, _Dtype) else None
        if text not in _UINT8 or not isinstance(self.raw, bytes):
            raise pickle.UnpicklingError(f"an array of {text}, not of uint8")
        return np.frombuffer(self.raw, np.uint8).reshape(self.shape)


class _Latin1:
    """Stands for _codecs.encode, by which Python 3 writes bytes into old pickles."""

    def __new__(cls, text: object, encoding: object) -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("text in another encoding than latin1")
        return text.encode("latin-1")


_STAND_INS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names '{module}.{name}', which is no array of numbers")
        return _STAND_INS[module, name]


def read_plain(raw: bytes) -> dict[str, object]:
    """The dictionary of a pickle: text keys; values are uint8 arrays, lists, text and numbers.

    Raises UnpicklingError for anything else, without having run any of it.
    """
    try:
        check_pickle(io.BytesIO(raw), refused=())
        # S301 is about code that a pickle runs; `find_class` above gives it none.
        unpickled = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
        if not isinstance(unpickled, dict):
            raise pickle.UnpicklingError(f"it holds a {type(unpickled).__name__}, not a dictionary")
        return {_text(key): v.value() if isinstance(v, _Array) else v for key, v in unpickled.items()}
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a torn pickle fails in whatever way its bytes happen to spell
        raise pickle.UnpicklingError(f"{type(error).__name__} {error}") from error


def _text(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)
