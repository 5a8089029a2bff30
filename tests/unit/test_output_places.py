"""Every output is opened in one way: links stay links, only files and folders are replaced."""

import os
import stat
import threading
from pathlib import Path

import pytest

from gloss.durable import folder_lock, output_file, output_folder, replaced_folder, write_text
from gloss.errors import StorageError


@pytest.mark.invariant("edges-1")
def test_a_link_stays_a_link_and_its_file_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    kept = tmp_path / "there" / "kept.txt"
    kept.write_text("old")
    (tmp_path / "one").symlink_to("there/kept.txt")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    write_text(tmp_path / "two", "new")
    assert kept.read_text() == "new"
    assert (tmp_path / "one").is_symlink()
    assert (tmp_path / "two").is_symlink()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["kept.txt"]


def test_a_link_to_nothing_makes_what_it_points_to(tmp_path):
    (tmp_path / "link").symlink_to("new/folder/file.txt")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "new" / "folder" / "file.txt").read_text() == "x"
    assert (tmp_path / "link").is_symlink()


def test_a_link_to_a_folder_stays_one_when_the_folder_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old").touch()
    (tmp_path / "av").symlink_to("disk")
    with replaced_folder(tmp_path / "av") as temporary:
        (temporary / "new").touch()
    assert (tmp_path / "av").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["new"]


@pytest.mark.invariant("edges-1")
def test_what_is_no_file_is_refused_and_stays(tmp_path):
    pipe, loop, folder = tmp_path / "pipe", tmp_path / "loop", tmp_path / "folder"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    folder.mkdir()
    (tmp_path / "to pipe").symlink_to(pipe)
    expected = {
        pipe: "a pipe",
        tmp_path / "to pipe": "a pipe",
        loop: "a link to itself",
        folder: "a folder",
        tmp_path / "": "a folder",
        "/dev/null": "a device",
        "/": "a folder",
        "": "a folder",
    }
    for place, kind in expected.items():
        with pytest.raises(StorageError, match=f"expected a file, found {kind}"):
            write_text(place, "x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "loop", "pipe", "to pipe"]


@pytest.mark.invariant("edges-1")
def test_a_file_is_no_folder_to_write(tmp_path):
    (tmp_path / "file").write_text("kept")
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("file", "a file"), ("pipe", "a pipe")):
        for use in (output_folder, lambda path: folder_lock(path).__enter__()):
            with pytest.raises(StorageError, match=f"expected a folder, found {kind}"):
                use(tmp_path / name)
    for below in (tmp_path / "file" / "x.json", tmp_path / "file" / "deep" / "x.json"):
        with pytest.raises(StorageError, match="Not a directory"):
            output_file(below)
    assert (tmp_path / "file").read_text() == "kept"


def test_missing_folders_are_made_by_the_writing_alone(tmp_path):
    place = tmp_path / "a" / "b" / "c.txt"
    assert output_file(place) == place.resolve()
    assert not (tmp_path / "a").exists()
    write_text(place, "x")
    assert place.read_text() == "x"


@pytest.mark.invariant("edges-1")
def test_the_input_is_no_output(tmp_path):
    table = tmp_path / "t.parquet"
    table.write_bytes(b"rows")
    (tmp_path / "link").symlink_to(table)
    for place in (table, tmp_path / "link", tmp_path / "." / "t.parquet"):
        with pytest.raises(StorageError, match="the output is the input"):
            output_file(place, unlike=table)
    assert output_file(tmp_path / "other", unlike=table).name == "other"


def test_a_private_file_stays_private(tmp_path):
    place = tmp_path / "secret.txt"
    place.write_text("old")
    place.chmod(0o600)
    write_text(place, "new")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_names_that_no_system_has_are_refused(tmp_path):
    for name in ("nul\0byte", "x" * 300):
        with pytest.raises(StorageError, match="cannot be written"):
            write_text(tmp_path / name, "x")


def test_names_that_are_no_utf_8_are_written(tmp_path):
    place = tmp_path / "caf\udce9" / "r\udcff.txt"
    write_text(place, "x")
    written = next((tmp_path / "caf\udce9").iterdir())
    assert os.fsencode(written.name) == b"r\xff.txt"


def test_nobody_waits_for_a_reader_of_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def write():
        with pytest.raises(StorageError):
            write_text(tmp_path / "pipe", "x")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(timeout=10)
    assert not writer.is_alive()


@pytest.mark.invariant("edges-1")
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "nla_meta.yaml", "x.safetensors"]
)
def test_a_part_of_a_model_is_no_output(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(StorageError, match="would replace a part of a model"):
        output_file(tmp_path / name)
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(tmp_path / name)
    with pytest.raises(StorageError, match="would replace a part of a model"):
        output_file(link)
    assert (tmp_path / name).read_bytes() == b"weights"
    assert output_file(tmp_path / "table.parquet") == tmp_path / "table.parquet"
    assert output_file(tmp_path / "new.safetensors") == tmp_path / "new.safetensors"
