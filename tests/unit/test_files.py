"""Files read without trust: regular ones of bounded size, in an encoding that is known, or one line."""

import os
import socket

import pytest

from upscore.errors import BundleError, DataError, OutputError, RecipeError
from upscore.files import check_file, read_file, read_text, reading, replace_folder, write_atomically


def refused(path, *, max_bytes=100):
    with pytest.raises(RecipeError) as caught:
        read_text(path, max_bytes=max_bytes, what="a recipe", error=RecipeError)
    assert "cannot be read as a recipe: " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe, a device or a socket" in refused(tmp_path / "pipe")
    assert "a pipe, a device or a socket" in refused(type(tmp_path)("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 characters
        listener.bind("socket")
        assert "a pipe, a device or a socket" in refused(tmp_path / "socket")
    assert "it is a folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "none")
    (tmp_path / "loop").symlink_to("loop")
    assert "links" in refused(tmp_path / "loop")
    assert "too long" in refused(tmp_path / ("x" * 10**6))
    assert "null" in refused(tmp_path / "a\0b")
    with pytest.raises(DataError):
        check_file(tmp_path / "\ud800", what="an image")


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("upscore.files.check_file", lambda *_, **__: 3)
    assert "replaced by a pipe" in refused(tmp_path / "pipe")


def test_a_file_has_at_most_so_many_bytes_even_where_it_grows(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x" * 101)
    assert "it has 101 bytes, expected at most 100" in refused(tmp_path / "file")
    monkeypatch.setattr("upscore.files.check_file", lambda *_, **__: 3)
    assert "expected at most 100" in refused(tmp_path / "file")
    assert read_file(tmp_path / "file", max_bytes=101, what="a recipe") == b"x" * 101


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_are_told_by_their_mark(tmp_path, encoding):
    (tmp_path / "file").write_bytes("Straße\r\n도로\rcar\n".encode(encoding))
    assert read_text(tmp_path / "file", max_bytes=100, what="a list") == "Straße\n도로\ncar\n"


def test_other_encodings_are_one_line_that_says_what_to_do(tmp_path):
    (tmp_path / "file").write_bytes("a\nStraße".encode("latin-1"))
    assert "byte 0xDF in line 2 is not UTF-8 (probably CP1252, a Windows code page): open it" in refused(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"\xff\xfe\x00\xd8")
    assert "marked as UTF-16-LE and is not" in refused(tmp_path / "file")


def test_a_refusal_of_the_system_names_the_file(tmp_path):
    with pytest.raises(BundleError, match="none: cannot be read: No such file"), reading(tmp_path, error=BundleError):
        (tmp_path / "none").read_bytes()
    with pytest.raises(DataError, match="cannot be read: odd"), reading(tmp_path):
        raise OSError("odd")


@pytest.mark.parametrize("name", ["x" * 10**6, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_not_written(tmp_path, name):
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / name, b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_rights_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "checkpoint", b"1")
        with replace_folder(tmp_path / "folder", what="bundle", holds=("kept",)) as partial:
            (partial / "kept").touch(mode=0o600)  # as safetensors writes
    finally:
        os.umask(before)
    assert (tmp_path / "checkpoint").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder" / "kept").stat().st_mode & 0o777 == mode
