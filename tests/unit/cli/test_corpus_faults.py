"""What is wrong with a corpus is one line and exit code 2; what is merely empty or long is counted
and cut.
"""

import json
import os
import sys

import pytest

from gloss.cli.main import main
from gloss.pipeline.run_config import preset_path

GOOD = (
    "The mill stood at the end of the lane, and every evening Mara walked there with her brother"
    " Jon in the rain."
)


@pytest.fixture
def gloss(tmp_path, monkeypatch, capsys):
    """Runs ``gloss data extract`` on a corpus: (exit code, standard output, lines of standard
    error).
    """

    def run(source, *settings):
        chosen = (
            "target=lab",
            f"corpus.source={source}",
            "extract.min_position=2",
            "corpus.text_field=text",
            *settings,
        )
        overrides = [word for setting in chosen for word in ("--set", setting)]
        arguments = [
            "data",
            "extract",
            "--config",
            str(preset_path("smoke")),
            "--out",
            str(tmp_path / "out"),
            *overrides,
        ]
        monkeypatch.setattr(sys, "argv", ["gloss", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return code, out.out, [line for line in out.err.splitlines() if line.startswith("gloss: ")]

    return run


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "empty.txt: the corpus is empty"),
        ("empty.jsonl", b"", "empty.jsonl: the corpus is empty"),
        ("empty.parquet", b"", "empty.parquet: not a Parquet file"),
        ("blank.txt", b"\n \n\t\n", "blank.txt: the corpus is empty"),
        (
            "hollow.jsonl",
            lines({"text": ""}, {"text": " "}),
            "no activation could be taken: expected documents of more",
        ),
        (
            "binary.txt",
            bytes(range(256)) * 4,
            "binary.txt: not a text file: expected UTF-8, found byte 0x80",
        ),
        (
            "picture.txt",
            b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)),
            "picture.txt: not a text file: expected UTF-8, found byte",
        ),
        (
            "nul.txt",
            GOOD.encode() + b"\nzero \0 byte",
            "nul.txt:2: not a text file: expected UTF-8 text, found a NUL byte",
        ),
        (
            "latin.txt",
            "naïve café".encode("latin-1"),
            "latin.txt: not a text file: expected UTF-8, found byte 0xef",
        ),
        (
            "utf16.jsonl",
            '{"text": "a"}'.encode("utf-16"),
            "utf16.jsonl: not a text file: expected UTF-8, found byte 0xff",
        ),
        (
            "broken.jsonl",
            lines({"text": GOOD}, {"text": GOOD}) + b'{"text": "cut o',
            "broken.jsonl:3: not JSON",
        ),
        ("number.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "number.jsonl:1: not JSON"),
        ("deep.jsonl", b"[" * 100_000, "deep.jsonl:1: not JSON"),
        ("cut.parquet", b"PAR1 and then nothing", "cut.parquet: not a Parquet file"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_one_line(name, content, message, gloss, tmp_path):
    (tmp_path / name).write_bytes(content)
    code, out, err = gloss(tmp_path / name)
    assert (code, out, len(err)) == (2, "", 1)
    assert message in err[0]


def test_empty_documents_are_counted_and_the_others_kept(gloss, tmp_path):
    (tmp_path / "c.jsonl").write_bytes(
        lines({"text": ""}, {"text": GOOD}, {"text": None}, {"text": "a b"})
    )
    code, out, _ = gloss(tmp_path / "c.jsonl")
    counts = json.loads(out)
    assert code == 0
    assert (counts["documents"], counts["empty"]) == (4, 2)
    assert counts["rows"] > 0


def test_a_gigantic_document_is_cut_to_what_the_target_reads(gloss, tmp_path):
    (tmp_path / "c.txt").write_text((GOOD + " ") * (50_000_000 // len(GOOD)), encoding="utf-8")
    code, out, _ = gloss(tmp_path / "c.txt")
    assert code == 0
    assert json.loads(out)["documents"] == 1
    assert json.loads(out)["rows"] > 0


def test_a_broken_file_after_good_ones_loses_no_finished_shard(gloss, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines({"text": GOOD}, {"text": GOOD}))
    (folder / "b.jsonl").write_bytes(b"{oh\n")
    settings = ("extract.shard_documents=1", "corpus.max_documents=9")
    code, _, err = gloss(folder, *settings)
    assert code == 2
    assert "b.jsonl:1: not JSON" in err[0]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}
    assert len(kept) == 2
    (folder / "b.jsonl").write_bytes(lines({"text": GOOD}))
    code, out, _ = gloss(folder, *settings)
    assert code == 0
    assert json.loads(out)["documents"] == 3
    assert (
        kept.items()
        <= {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.parquet")}.items()
    )


def test_a_link_to_nothing_in_a_folder_is_an_error_not_a_document_less(gloss, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(GOOD)
    (folder / "b.txt").symlink_to(tmp_path / "gone.txt")
    code, _, err = gloss(folder)
    assert code == 2
    assert "b.txt: cannot be read (No such file or directory)" in err[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_an_unreadable_entry_is_an_error(what, gloss, tmp_path):
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(GOOD)
    (folder / "deep" / "b.txt").write_text(GOOD)
    barred = folder / "deep" if what == "folder" else folder / "deep" / "b.txt"
    barred.chmod(0)
    code, _, err = gloss(folder)
    barred.chmod(0o700)
    assert code == 2
    assert "cannot be read (Permission denied)" in err[0]


def test_a_folder_that_cannot_be_listed_is_an_error(gloss, tmp_path, monkeypatch):
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(GOOD)
    scandir = os.scandir

    def barred(path="."):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", barred)
    code, _, err = gloss(folder)
    assert code == 2
    assert "deep: cannot be read (Permission denied)" in err[0]


def test_a_text_given_for_a_path_is_one_line(gloss):
    code, _, err = gloss("x" * 5000)
    assert code == 2
    assert "cannot be read (File name too long)" in err[0]
    assert len(err[0]) < 400
