"""The stores that benchmarks/peers.py compares with ours: each writes rows and reads shuffled batches of them
as its documentation recommends for local files.

A row is a mapping of parts, such as 'values' (45,60,256) uint8 with 'scale' (2,256) float32; a table of rows
is the same with N in front. `write` calls `said(n)` whenever the store has been told to keep the first n rows
and has returned. `open` gives a function from indices (B,) to a batch of stacked parts; `claims` is how many
rows what lies on disk says that it has. Imports nothing foreign by itself: a store is used in its own
environment.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Table = Mapping[str, np.ndarray]
Batch = Callable[[np.ndarray], dict[str, np.ndarray]]
Said = Callable[[int], None]
COMMIT = 64  # rows that are written before a store is told to keep them
CHUNK_BYTES = 1 << 20  # zarr's guide: chunks of at least a megabyte, more than one row where rows are small
MAP_SIZE = 1 << 40  # LMDB: address space that is set aside, not disk


class Like(NamedTuple):
    """What a reader knows of a table beforehand: rows, and shape and dtype of each part."""

    rows: int
    parts: Mapping[str, tuple[tuple[int, ...], str]]

    @property
    def row_bytes(self) -> int:
        return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.parts.values())

    def empty(self, rows: int) -> dict[str, np.ndarray]:
        return {name: np.empty((rows, *shape), dtype) for name, (shape, dtype) in self.parts.items()}


def like(table: Table) -> Like:
    rows = len(next(iter(table.values())))
    return Like(rows, {name: (part.shape[1:], part.dtype.str) for name, part in table.items()})


def load_table(folder: Path) -> dict[str, np.ndarray]:
    """The parts that `save_table` left, mapped."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def save_table(table: Table, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in table.items():
        np.save(folder / f"{name}.npy", part)


def steps(rows: int) -> list[tuple[int, int]]:
    """(first, end) of the runs of rows that are kept at once."""
    return [(first, min(first + COMMIT, rows)) for first in range(0, rows, COMMIT)]


class Store(ABC):
    """One way to keep rows. `packages` are asked for their versions, `modules` imported before clocks run."""

    name: str
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    as_recommended: str = ""  # how it is used here, in words
    killed = True  # whether it writes in a way of its own, which a kill may interrupt

    @abstractmethod
    def write(self, table: Table, folder: Path, said: Said) -> None: ...

    @abstractmethod
    def open(self, folder: Path, like: Like) -> Batch: ...

    def claims(self, folder: Path, like: Like) -> int:
        """Rows that are there by the store's own account."""
        self.open(folder, like)
        return like.rows


class Memmap(Store):
    name, packages = "memmap", ("numpy",)
    as_recommended = "one np.memmap a part; a batch is one fancy index"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            name: np.memmap(folder / f"{name}.bin", part.dtype, "w+", shape=part.shape)
            for name, part in table.items()
        }
        for first, end in steps(like(table).rows):
            for name, file in files.items():
                file[first:end] = table[name][first:end]
                file.flush()
            said(end)

    def open(self, folder: Path, like: Like) -> Batch:
        files = self.files(folder, like)
        return lambda indices: {name: file[indices] for name, file in files.items()}

    @staticmethod
    def files(folder: Path, like: Like) -> dict[str, Any]:
        return {
            name: np.memmap(folder / f"{name}.bin", dtype, "r", shape=(like.rows, *shape))
            for name, (shape, dtype) in like.parts.items()
        }


class MemmapRows(Memmap):
    """The same files as most loops read them."""

    name, killed = "memmap, row by row", False
    as_recommended = "the same files, a batch as np.stack of single rows"

    def open(self, folder: Path, like: Like) -> Batch:
        files = self.files(folder, like)
        return stacked(lambda index: {name: file[index] for name, file in files.items()}, like)


class Lmdb(Store):
    name, packages = "LMDB", ("lmdb",)
    modules = ("lmdb",)
    as_recommended = "readonly, lock=False, readahead=False; one read transaction with buffers=True"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        import lmdb

        folder.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(folder), map_size=MAP_SIZE) as environment:
            for first, end in steps(like(table).rows):
                with environment.begin(write=True) as transaction:
                    for index in range(first, end):
                        value = b"".join(part[index].tobytes() for part in table.values())
                        transaction.put(index.to_bytes(8, "big"), value, append=True)
                said(end)

    def open(self, folder: Path, like: Like) -> Batch:
        transaction = self._environment(folder).begin(buffers=True)

        def batch(indices: np.ndarray) -> dict[str, np.ndarray]:
            out = like.empty(len(indices))
            for place, index in enumerate(indices.tolist()):
                value, offset = transaction.get(index.to_bytes(8, "big")), 0
                for name, (shape, dtype) in like.parts.items():
                    count = int(np.prod(shape))
                    part = np.frombuffer(value, dtype, count, offset)
                    out[name][place] = part.reshape(shape)
                    offset += part.nbytes
            return out

        return batch

    def claims(self, folder: Path, like: Like) -> int:
        return int(self._environment(folder).stat()["entries"])

    def _environment(self, folder: Path) -> Any:
        import lmdb

        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)


class Hdf5(Store):
    name, packages = "HDF5 (h5py)", ("h5py",)
    modules = ("h5py",)
    as_recommended = "contiguous datasets, a batch as one sorted selection, flushed after every 64 rows"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        import h5py

        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / "rows.h5", "w") as file:
            sets = {name: file.create_dataset(name, part.shape, part.dtype) for name, part in table.items()}
            for first, end in steps(like(table).rows):
                for name, one in sets.items():
                    one[first:end] = table[name][first:end]
                file.flush()
                said(end)

    def open(self, folder: Path, like: Like) -> Batch:
        import h5py

        file = h5py.File(folder / "rows.h5", "r")
        sets = {name: file[name] for name in like.parts}

        def batch(indices: np.ndarray) -> dict[str, np.ndarray]:
            order = np.argsort(indices)  # a selection must rise
            out = like.empty(len(indices))
            for name, one in sets.items():
                out[name][order] = one[indices[order]]
            return out

        return batch


class ZarrPython(Store):
    name, packages = "zarr-python", ("zarr",)
    modules = ("zarr",)
    as_recommended = "chunks of 1 MiB or one row, uncompressed; a batch as one orthogonal selection"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        import zarr

        group = zarr.open_group(folder, mode="w")
        arrays = {name: self._array(group, name, part) for name, part in table.items()}
        step = max(COMMIT, *(array.chunks[0] for array in arrays.values()))
        rows = like(table).rows
        for first in range(0, rows, step):
            end = min(first + step, rows)
            for name, array in arrays.items():
                array[first:end] = table[name][first:end]
            said(end)

    def _array(self, group: Any, name: str, part: np.ndarray) -> Any:
        in_chunk = int(np.clip(CHUNK_BYTES // part[0].nbytes, 1, len(part)))
        chunks = (in_chunk, *part.shape[1:])
        return group.create_array(
            name, shape=part.shape, dtype=part.dtype, chunks=chunks, compressors=None, filters=None
        )

    def open(self, folder: Path, like: Like) -> Batch:
        import zarr

        group = zarr.open_group(folder, mode="r")
        arrays = {name: group[name] for name in like.parts}
        return lambda indices: {name: array.oindex[indices] for name, array in arrays.items()}


class Tensorstore(Store):
    name, packages = "tensorstore", ("tensorstore",)
    modules = ("tensorstore",)
    as_recommended = "zarr3, chunks of 1 MiB or one row, a cache_pool of 256 MiB; a batch as one indexed read"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        rows = like(table).rows
        arrays = {name: self._open(folder / name, part) for name, part in table.items()}
        step = max(COMMIT, *(array.chunk_layout.read_chunk.shape[0] for array in arrays.values()))
        for first in range(0, rows, step):
            end = min(first + step, rows)
            for name, array in arrays.items():
                array[first:end].write(np.asarray(table[name][first:end])).result()
            said(end)

    def open(self, folder: Path, like: Like) -> Batch:
        arrays = {name: self._open(folder / name) for name in like.parts}
        return lambda indices: {name: array[indices].read().result() for name, array in arrays.items()}

    def _open(self, folder: Path, part: np.ndarray | None = None) -> Any:
        import tensorstore

        spec: dict[str, Any] = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(folder)},
            "context": {"cache_pool": {"total_bytes_limit": 256 << 20}},
        }
        if part is None:
            return tensorstore.open(spec, read=True).result()
        in_chunk = int(np.clip(CHUNK_BYTES // part[0].nbytes, 1, len(part)))
        layout = tensorstore.ChunkLayout(chunk_shape=(in_chunk, *part.shape[1:]))
        return tensorstore.open(
            spec, create=True, dtype=part.dtype.name, shape=part.shape, chunk_layout=layout
        ).result()


class PtFiles(Store):
    name, packages = "one .pt a sample", ("torch",)
    modules = ("torch",)
    as_recommended = "torch.save of a dict, torch.load(weights_only=True), torch.stack; 1000 files a folder"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        import torch

        for index in range(like(table).rows):
            file = self._file(folder, index)
            file.parent.mkdir(parents=True, exist_ok=True)
            row = {name: torch.from_numpy(np.array(part[index])) for name, part in table.items()}
            torch.save(row, file)
            said(index + 1)

    def open(self, folder: Path, like: Like) -> Batch:
        import torch

        def batch(indices: np.ndarray) -> dict[str, np.ndarray]:
            rows = [torch.load(self._file(folder, i), weights_only=True) for i in indices.tolist()]
            return {name: torch.stack([row[name] for row in rows]).numpy() for name in like.parts}

        return batch

    def claims(self, folder: Path, like: Like) -> int:
        return sum(1 for _ in folder.rglob("*.pt"))

    @staticmethod
    def _file(folder: Path, index: int) -> Path:
        return folder / f"{index // 1000:04d}" / f"{index:08d}.pt"


class Mds(Store):
    name, packages = "MosaicML Streaming", ("mosaicml-streaming",)
    modules = ("streaming",)
    as_recommended = "MDSWriter with sized ndarray columns, StreamingDataset(local=...)[i]"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        from streaming import MDSWriter

        columns = {
            name: f"ndarray:{part.dtype.name}:{','.join(map(str, part.shape[1:]))}"
            for name, part in table.items()
        }
        limit = int(min(1 << 26, max(1 << 20, sum(part.nbytes for part in table.values()) // 8)))
        with MDSWriter(out=str(folder), columns=columns, size_limit=limit) as writer:
            for index in range(like(table).rows):
                writer.write({name: np.array(part[index]) for name, part in table.items()})
        said(like(table).rows)

    def open(self, folder: Path, like: Like) -> Batch:
        dataset = self._dataset(folder)
        return stacked(dataset.__getitem__, like)

    def claims(self, folder: Path, like: Like) -> int:
        return len(self._dataset(folder))

    def _dataset(self, folder: Path) -> Any:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        return StreamingDataset(local=str(folder), shuffle=False, batch_size=COMMIT)


class RowOf:
    """Row `index` of a saved table: what litdata.optimize gives to its worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        return {name: np.array(part[index]) for name, part in load_table(self.folder).items()}


class LitData(Store):
    name, packages = "LitData", ("litdata",)
    modules = ("litdata",)
    as_recommended = "optimize(chunk_bytes='64MB', num_workers=1), StreamingDataset(folder)[i]"

    def write(self, table: Table, folder: Path, said: Said) -> None:
        import litdata

        rows, source = like(table).rows, folder.with_name(f"{folder.name}-source")
        save_table(table, source)
        litdata.optimize(
            fn=RowOf(source), inputs=list(range(rows)), output_dir=str(folder), chunk_bytes="64MB",
            num_workers=1, verbose=False,
        )  # fmt: skip
        shutil.rmtree(source)
        said(rows)

    def open(self, folder: Path, like: Like) -> Batch:
        return stacked(self._dataset(folder).__getitem__, like)

    def claims(self, folder: Path, like: Like) -> int:
        return len(self._dataset(folder))

    def _dataset(self, folder: Path) -> Any:
        import litdata

        return litdata.StreamingDataset(str(folder))


def stacked(row: Callable[[int], Mapping[str, Any]], like: Like) -> Batch:
    """A batch from a reader of single rows."""

    def batch(indices: np.ndarray) -> dict[str, np.ndarray]:
        rows = [row(int(index)) for index in indices]
        return {name: np.stack([np.asarray(one[name]) for one in rows]) for name in like.parts}

    return batch


def bytes_of(folder: Path) -> dict[str, int]:
    """Bytes of all files below `folder`, and of the blocks of the disk that they take."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {
        "bytes": sum(f.st_size for f in files),
        "disk": sum(f.st_blocks * 512 for f in files),
        "files": len(files),
    }
