"""MATLAB files as plain values: equal to what SciPy reads, and nothing of hostile ones."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from mat_bytes import cell, mat_bytes, structs
from upscore.matlab_files import is_matlab, parse_matlab

LIMIT = 10**6
HEADER = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"


def element(kind, body, order="<"):
    return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)


def array(kind, dims, *parts, name=b"x", flags=0, order="<"):
    """A matrix of a class with these dimensions, followed by its parts."""
    head = element(6, struct.pack(order + "II", kind | flags, 0), order) + element(5, struct.pack(f"{order}{len(dims)}i", *dims), order)
    return element(14, head + element(1, name, order) + b"".join(parts), order)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?"])
@pytest.mark.parametrize("shape", [(4, 5), (1, 1), (2, 3, 4), (1, 7), (0, 3)])
def test_arrays_are_those_that_scipy_reads(compressed, dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    content = mat_bytes({"x": values, "other": np.arange(3.0)}, compressed=compressed)
    found = parse_matlab(content, max_bytes=LIMIT)
    expected = scipy.io.loadmat(io.BytesIO(content))
    assert list(found) == ["x", "other"]
    assert np.array_equal(found["x"], expected["x"])
    assert found["x"].shape == shape


def test_text_cells_and_structs():
    inner = structs([{"name": "sky", "value": np.eye(2)}, {"name": "tree", "value": np.zeros((0, 0))}])
    found = parse_matlab(mat_bytes({"net": inner, "names": cell(["a", cell(["b", 3.0])]), "empty": "", "text": "도로"}), max_bytes=LIMIT)
    assert [row["name"] for row in found["net"]] == ["sky", "tree"]
    assert found["net"][0]["value"].tolist() == [[1, 0], [0, 1]]
    assert found["net"][1]["value"].size == 0
    assert found["names"][0] == "a"
    assert found["names"][1][0] == "b"
    assert (found["empty"], found["text"]) == ("", "도로")


def test_what_is_no_array_of_numbers_is_skipped():
    variables = {"sparse": scipy.sparse.eye_array(3).tocsc(), "complex": np.array([1 + 2j]), "x": np.array([1.0])}
    found = parse_matlab(mat_bytes(variables), max_bytes=LIMIT)
    assert (found["sparse"], found["complex"]) == (None, None)
    opaque = element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"s") + element(1, b"MCOS") + element(1, b"table"))
    assert "x" in parse_matlab(HEADER + opaque + mat_bytes({"x": 1.0}, compressed=False)[128:], max_bytes=LIMIT)


def test_files_of_the_other_byte_order():
    content = HEADER[:124] + b"\x01\x00MI" + array(6, (2, 1), element(2, b"\x01\x02", ">"), order=">")
    assert parse_matlab(content, max_bytes=LIMIT)["x"].ravel().tolist() == [1, 2]
    text = array(4, (1, 2), element(4, "ab".encode("utf-16-be"), ">"), order=">")
    assert parse_matlab(HEADER[:124] + b"\x01\x00MI" + text, max_bytes=LIMIT)["x"] == "ab"


def nested(depth):
    inner = array(6, (1, 1), element(2, b"\x01"), name=b"")
    for _ in range(depth):
        inner = array(1, (1, 1), inner, name=b"")
    return inner


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no header of MATLAB's format 5"),
        (HEADER[:60], "no header"),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", r"format 7\.3 \(HDF5\), expected format 5: save it again in MATLAB"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), r"format 7\.3"),
        (HEADER + b"\x0e\0\0", "damaged"),
        (HEADER + struct.pack("<II", 14, 2**32 - 1), "an element of 4294967295 bytes where 0 are left"),
        (HEADER + element(9, bytes(8)), "an element of type 9 where a variable was expected"),
        (HEADER + array(6, (2**31 - 1, 2**31 - 1), element(2, b"\x01")), "an array of the size .2147483647, 2147483647. with 1 values"),
        (HEADER + array(6, (-1, 2), element(2, b"\x01")), "an array of the size .-1, 2."),
        (HEADER + array(6, (1,), element(2, b"\x01")), "an array of the size .1,."),
        (HEADER + array(6, (1,) * 40, element(2, b"\x01")), "an array of the size"),
        (HEADER + array(6, (1, 1), element(9, bytes(4))), "4 bytes of numbers of 8 bytes each"),
        (HEADER + array(6, (1, 1), element(77, bytes(8))), "type 77 where numbers were expected"),
        (HEADER + array(4, (1, 1), element(9, bytes(8))), "type 9 where text was expected"),
        (HEADER + array(4, (1, 1), element(16, b"\xff\xfe")), "damaged"),
        (HEADER + array(1, (2**31 - 1, 1)), "2147483647 cells or fields in 0 bytes"),
        (HEADER + array(1, (1, 1), element(2, bytes(8))), "type 2 where an array was expected"),
        (HEADER + array(2, (2**31 - 1, 2**31 - 1), element(5, struct.pack("<i", 8)), element(1, b"")), "more than 1000000 structs"),
        (HEADER + array(2, (1, 1), element(5, struct.pack("<i", 0)), element(1, b"a")), "without the names of its fields"),
        (HEADER + array(2, (1, 1), element(5, struct.pack("<i", -5)), element(1, b"a")), "without the names of its fields"),
        (HEADER + array(1, (1, 1), nested(40)), "more than 32 inside one another"),
        (HEADER + array(6, (1, 1), element(2, b"\x01")) * 2, "the variable 'x' is there twice"),
        (HEADER + element(15, b"not zlib"), "damaged"),
        (HEADER + element(15, zlib.compress(bytes(2 * LIMIT))), "expand to more than the 1000000 bytes that are allowed"),
        (HEADER + element(15, zlib.compress(array(6, (1, 1), element(2, b"\x01")))[:-9]), "truncated|damaged"),
        (HEADER + struct.pack("<II", 5 << 16 | 14, 0), "a short element of 5 bytes"),
    ],
)
def test_what_is_damaged_or_crafted_is_one_reason(content, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        parse_matlab(content, max_bytes=LIMIT)
    assert "\n" not in str(error.value)


def test_several_compressed_variables_share_one_limit():
    content = mat_bytes({f"x{i}": np.zeros(50_000, np.uint8) for i in range(30)})
    assert len(content) < 20_000
    with pytest.raises(ValueError, match="expand to more than"):
        parse_matlab(content, max_bytes=LIMIT)


def test_files_cut_short_anywhere():
    for compressed in (True, False):
        content = mat_bytes({"x": np.arange(200.0).reshape(10, 20), "c": cell(["a", structs([{"b": 1.0}])])}, compressed=compressed)
        whole = 0
        for length in range(128, len(content), 7):
            try:
                whole += "c" in parse_matlab(content[:length], max_bytes=LIMIT)
            except ValueError as error:
                assert "\n" not in str(error)  # noqa: PT017
        assert whole <= 1, "only the padding of the last element may be missing"


def test_what_is_recognised():
    assert is_matlab(mat_bytes({"x": 1.0}))
    assert is_matlab(HEADER.replace(b"MATLAB", b"Octave"))
    assert not is_matlab(b"\x89PNG\r\n\x1a\n" + bytes(200))
