"""Parquet files that state little and hold much: memory is bounded by what is checked before pages are decompressed."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parquet_bytes import png, state_small_sizes, write_parquet
from upscore.data import parquet_files
from upscore.data.open_dataset import open_dataset
from upscore.data.parquet_files import read_image_bytes, read_image_paths, read_table
from upscore.data.parquet_pages import measure_pages, read_chunks
from upscore.errors import DataError

arrow = pytest.importorskip("pyarrow")

LIMIT = 2**20
POOLS: list[Any] = []  # they must live longer than what they hold


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What pyarrow allocates in a test, where a column may take a mebibyte."""
    monkeypatch.setattr(parquet_files, "_MAX_COLUMN", LIMIT)
    before = arrow.default_memory_pool()
    found = arrow.proxy_memory_pool(before)
    POOLS.append(found)
    arrow.set_memory_pool(found)
    yield found
    arrow.set_memory_pool(before)


def rows(values: list[bytes], path: str = "a.png") -> dict[str, Any]:
    return {"image": [{"bytes": value, "path": path} for value in values]}


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy", "brotli"])
def test_pages_that_decompress_to_more_than_is_stated(tmp_path: Path, pool: Any, compression: str) -> None:
    file = write_parquet(tmp_path / "a.parquet", rows([bytes(2**24)]), compression=compression, use_dictionary=False)
    assert file.stat().st_size < 2**20
    state_small_sizes(file)
    assert read_table(file).rows == 1
    held = parquet_files.row_groups()
    before = pool.max_memory()
    with pytest.raises(DataError, match=f"the pages of image.bytes take more than {LIMIT} bytes in a group of rows once decompressed"):
        read_image_bytes(file, "image", 1)
    assert pool.max_memory() - before < LIMIT
    assert not held._read


@pytest.mark.parametrize("name", ["bytes", "path"])
def test_rows_that_refer_to_one_long_value(tmp_path: Path, pool: Any, name: str) -> None:
    value = bytes(2**17)
    columns = rows([value] * 500) if name == "bytes" else rows([b"x"] * 500, value.decode())
    file = write_parquet(tmp_path / "a.parquet", columns, group=500, dictionary_pagesize_limit=2**20)
    assert file.stat().st_size < 2**16
    before = pool.max_memory()
    leaf = "image.bytes" if name == "bytes" else "image.path"
    with pytest.raises(DataError, match=f"the values of image.bytes take more than {LIMIT} bytes"):
        read_image_bytes(file, "image", 500)
    if name == "path":
        with pytest.raises(DataError, match=f"the values of {leaf} take more than {LIMIT} bytes"):
            read_image_paths(file, "image")
    assert pool.max_memory() - before < 4 * LIMIT  # the values, the page, and a batch; all rows are 64 times the limit


def test_what_is_within_the_limit_is_read_in_parts(tmp_path: Path, pool: Any) -> None:
    values = [bytes([number]) * 2**15 for number in range(10)] + [b""]
    for group in (3, 11):
        file = write_parquet(tmp_path / f"{group}.parquet", rows(values), group=group)
        held = parquet_files.row_groups()
        for index in (9, 0, 4):
            assert read_image_bytes(file, "image", index + 1) == values[index]
        with pytest.raises(DataError, match="which is not below"):
            read_image_bytes(file, "image", 11)
        assert read_image_paths(file, "image") == ["a.png"] * 11
        assert any(len(values.chunks) > 1 for values in held._read.values())
    write_parquet(tmp_path / "none.parquet", {"image": [png(np.zeros((2, 2), np.uint8))]})
    assert read_image_paths(tmp_path / "none.parquet", "image") == [None]


def test_an_image_that_is_too_large_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_MAX_IMAGE", 1000)
    for name, columns in (("struct", rows([b"x" * 1001, b"y"])), ("alone", {"image": [b"x" * 1001, b"y"]})):
        file = write_parquet(tmp_path / f"{name}.parquet", columns)
        with pytest.raises(DataError, match="row 1 holds 1001 bytes in 'image', expected at most 1000"):
            read_image_bytes(file, "image", 1)
        assert read_image_bytes(file, "image", 2) == b"y"


@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"data_page_size": 500, "compression": "none"}]
)
def test_pages_are_measured_as_pyarrow_states_them(tmp_path: Path, options: dict[str, Any]) -> None:
    from pyarrow.parquet import read_metadata

    values = [b"x" * (number % 7 * 100) if number % 5 else None for number in range(250)]
    columns = {"scene": list(range(250)), "image": [{"bytes": value, "path": f"{n % 3}"} for n, value in enumerate(values)]}
    file = write_parquet(tmp_path / "a.parquet", columns, group=100, write_batch_size=10, write_statistics=False, **options)
    metadata = read_metadata(str(file))
    with file.open("rb") as opened:
        groups = read_chunks(opened, 2**20)
        assert len(groups) == metadata.num_row_groups == 3
        for group, chunks in enumerate(groups):
            for number, chunk in enumerate(chunks):
                stated = metadata.row_group(group).column(number)
                if chunk.path[0] == "image":
                    sizes = measure_pages(opened, chunk, metadata.row_group(group).num_rows)
                    assert ".".join(chunk.path) == stated.path_in_schema
                    headers = stated.total_uncompressed_size - sizes.total  # which it counts too
                    assert 10 <= headers <= (4000 if "data_page_size" in options else 200)
                    assert bool(sizes.dictionary) == stated.has_dictionary_page
        with pytest.raises(ValueError, match="its footer states"):
            read_chunks(opened, 100)


def test_encodings_that_hide_their_size_are_refused(tmp_path: Path) -> None:
    encoding = {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY", "image.path": "PLAIN"}
    file = write_parquet(tmp_path / "a.parquet", rows([b"x"]), use_dictionary=False, column_encoding=encoding)
    with pytest.raises(
        DataError, match=r"the pages of image.bytes have the encoding DELTA_LENGTH_BYTE_ARRAY, expected PLAIN or a dictionary"
    ):
        read_image_bytes(file, "image", 1)


def test_groups_are_forgotten_with_the_last_dataset_that_holds_them(tmp_path: Path) -> None:
    images = [png(np.full((4, 5, channels), channels, np.uint8)) for channels in (3, 3)]
    masks = [png(np.zeros((4, 5), np.uint8)), png(np.ones((4, 5), np.uint8))]
    for split in ("train", "val"):
        write_parquet(tmp_path / f"{split}.parquet", {"image": images, "label": masks})
    (tmp_path / "classes.txt").write_text("a\nb\n")
    datasets = [open_dataset(tmp_path, split) for split in ("train", "val")]
    assert datasets[0][0].label is not None
    held = parquet_files.row_groups()
    assert held._read
    assert pickle.loads(pickle.dumps(held)) is held
    other = pickle.loads(pickle.dumps(datasets.pop()))
    del datasets
    gc.collect()
    assert parquet_files.row_groups() is held
    del held
    gc.collect()
    assert parquet_files._shared is not None
    assert parquet_files._shared() is not None  # which the other holds
    assert other[1].label.all()
    del other
    gc.collect()
    assert parquet_files._shared() is None
