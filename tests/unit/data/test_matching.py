"""Which mask belongs to which image."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscore.data.matching import match_masks
from upscore.errors import DataError


def keyed(*names: str) -> list[tuple[str, Path]]:
    return [(name, Path(name)) for name in names]


@pytest.mark.parametrize(
    ("images", "masks", "rule"),
    [
        (["a", "b"], ["a_mask", "b_mask"], "'NAME_mask' for 'NAME'"),
        (["a", "b"], ["a.jpg", "b.jpg"], "'NAME.jpg' for 'NAME'"),
        (["a", "b"], ["mask_a", "mask_b"], "'mask_NAME' for 'NAME'"),
        (["a"], ["a_mask"], "'NAME_mask' for 'NAME'"),
        (["1", "10"], ["1_label", "10_label"], "'NAME_label' for 'NAME'"),
        (
            ["c/a_leftImg8bit", "c/b_leftImg8bit"],
            ["c/a_gtFine_labelIds", "c/b_gtFine_labelIds"],
            "'NAME_gtFine_labelIds' for 'NAME_leftImg8bit'",
        ),
        (["case_1_0000", "case_2_0000"], ["case_1", "case_2"], "'NAME' for 'NAME_0000'"),
        (["img_01", "img_02"], ["mask_01", "mask_02"], "'mask_NAME' for 'img_NAME'"),
        (["img01", "img02"], ["mask01", "mask02"], "'maskNAME' for 'imgNAME'"),
        (["img_1_rgb", "img_2_rgb"], ["seg_1_gt", "seg_2_gt"], "'seg_NAME_gt' for 'img_NAME_rgb'"),
    ],
)
def test_names_that_follow_one_rule_are_paired_and_it_is_said(images: list[str], masks: list[str], rule: str) -> None:
    warnings: list[str] = []
    pairs = match_masks(keyed(*images), keyed(*reversed(masks)), warnings=warnings)
    assert [(pair.key, str(pair.mask)) for pair in pairs] == list(zip(images, masks, strict=True))
    assert warnings == [f"masks are paired with images by the rule {rule}"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1", "2"], ["11", "21"]),  # 11 is not named after 1
        (["a", "b"], ["a_mask", "b_label"]),
        (["a", "b"], ["a_mask"]),
        (["a", "b"], ["a", "b_mask"]),  # some have their image's own name, so the others are wrong
        (["a", "b"], ["a_mask", "b_mask", "c_mask"]),  # one too many
        (["a"], ["ab"]),
        (["a"], ["z"]),
        (["x/a", "x/b"], ["y/a_mask", "y/b_mask"]),
    ],
)
def test_other_names_are_not_guessed_at(images: list[str], masks: list[str]) -> None:
    with pytest.raises(DataError, match=r"no mask|no image"):
        match_masks(keyed(*images), keyed(*masks))


def test_masks_of_two_kinds_are_an_error_and_the_remedy_works() -> None:
    masks = ["a_color", "a_labelIds", "b_color", "b_labelIds"]
    with pytest.raises(DataError, match=r"by 2 rules, 'NAME_color' for 'NAME', 'NAME_labelIds' for 'NAME': leave the masks of one kind"):
        match_masks(keyed("a", "b"), keyed(*masks))
    assert len(match_masks(keyed("a", "b"), keyed(*masks[1::2]))) == 2


@given(
    names=st.lists(st.text("abcxyz0123456789", min_size=1, max_size=6), min_size=2, max_size=8, unique=True),
    before=st.sampled_from(["", "m_", "gt-"]),
    after=st.sampled_from(["", "_mask", "-x", ".jpg"]),
)
def test_a_rule_gives_each_image_its_own_mask(names: list[str], before: str, after: str) -> None:
    masks = [f"{before}{name}{after}" for name in names]
    pairs = match_masks(keyed(*names), keyed(*sorted(masks)))
    assert [str(pair.mask) for pair in pairs] == masks


@pytest.mark.parametrize(("image", "mask"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_composed_and_decomposed_names_are_the_same(image: str, mask: str) -> None:
    name = "Straßenbäume/é도로"
    images, truth = (unicodedata.normalize(form, name) for form in (image, mask))  # type: ignore[arg-type]
    (pair,) = match_masks(keyed(images), keyed(truth, "other"), instances=keyed(truth), extra_allowed=True)
    assert (str(pair.image), str(pair.mask), str(pair.instances)) == (images, truth, truth)
    # What matched before this was known keeps its key, and with it its part of a divided dataset.
    assert pair.key == (images if image == mask else unicodedata.normalize("NFC", name))


def test_unmatched_files_are_named_with_the_nearest() -> None:
    images = keyed("street_01", "street_02", "tree", "other")
    masks = keyed("other", "street-01", "stret_02", "xyz")
    expected = "3 of 4 images have no mask .* nearest names: street_01 and street-01, street_02 and stret_02: a mask"
    with pytest.raises(DataError, match=expected):
        match_masks(images, masks)
    with pytest.raises(DataError, match="2 of 3 images have no mask") as error:
        match_masks(images[1:], masks[:1] + masks[3:])
    assert "nearest" not in str(error.value)
