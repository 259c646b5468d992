"""Files are written with the rights that the user gives new files."""

import os

import pytest

from upscore.files import write_atomically, written_whole


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_rights_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "checkpoint", b"1")
        with written_whole(tmp_path / "folder", what="bundle", holds=("kept",)) as partial:
            (partial / "kept").touch(mode=0o600)  # as safetensors writes
    finally:
        os.umask(before)
    assert (tmp_path / "checkpoint").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder" / "kept").stat().st_mode & 0o777 == mode
