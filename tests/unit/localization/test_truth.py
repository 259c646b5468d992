import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.examples import NUMBERS, WORDS, encoded, fuzz, taken_or_refused
from upscore.errors import DataError
from upscore.localization.truth import read_true_boxes

CLASSES = {"cat": 0, "dog": 1, "0": 0, "1": 1}
HEADER = "image,class,left,top,right,bottom\n"


def read(tmp_path, text):
    (tmp_path / "boxes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_true_boxes(tmp_path / "boxes.csv", CLASSES)


def test_boxes_are_found_by_the_end_of_a_path(tmp_path):
    boxes = read(tmp_path, HEADER + "street/a.jpg, Cat ,1,2,3.5,4\n\nb.jpg,1,0,0,9,9\nstreet/a.jpg,dog,0,0,1,1\n")
    assert boxes.of("/data/street/a.jpg") == [(0, (1, 2, 3.5, 4)), (1, (0, 0, 1, 1))]
    assert boxes.of("b.jpg") == boxes.of("x/b.jpg") == [(1, (0, 0, 9, 9))]
    with pytest.raises(DataError, match="no box of"):
        boxes.of("a.jpg")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found the columns none"),
        ("image,label\n", "found the columns image,label"),
        (HEADER, "found no box"),
        (HEADER + "a,cat,1,2,3\n", "line 2 has 5 values"),
        (HEADER + "a,dig,1,2,3,4\n", "did you mean 'dog'"),
        (HEADER + "a,cat,1,2,x,4\n", "expected numbers"),
        (HEADER + "a,cat,3,2,1,4\n", "left below right"),
        (HEADER + "a,cat,1,2,inf,4\n", "left below right"),
        (HEADER + "a,cat,1,nan,2,4\n", "left below right"),
    ],
)
def test_mistakes_name_the_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, text)


@fuzz
@given(st.lists(st.sampled_from(encoded((*NUMBERS, *WORDS, HEADER, "a,cat,", ",", "\n", '"', "1,2,3,4", "\r", "\0"))), max_size=8))
def test_any_file_of_boxes(tmp_path_factory, chunks):
    with taken_or_refused():
        read(tmp_path_factory.mktemp("boxes"), HEADER.encode() + b"".join(chunks))
