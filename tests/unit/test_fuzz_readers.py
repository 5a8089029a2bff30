"""The first cases of the fuzzer, in this process, and that it notices what it looks for."""

from collections import Counter
from dataclasses import replace

import fuzz_readers
import pytest
from fuzz_readers import Reader, run_case

from gloss.errors import GlossError


@pytest.mark.parametrize("reader", fuzz_readers.readers(), ids=lambda reader: reader.name)
def test_good_inputs_are_read_and_damaged_ones_read_or_refused(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzz_readers, "damaged", lambda data, name, rng: data)
    assert (
        run_case(0, 0, tmp_path / "case", [replace(reader, inputs=reader.inputs[:1])])[1] == "fine"
    )
    monkeypatch.undo()
    cases = 8 if reader.name == "AR" else 60
    found = [run_case(0, case, tmp_path / "case", [reader]) for case in range(cases)]
    assert [details for _, outcome, details in found if outcome == "other"] == []
    assert Counter(outcome == "fine" for _, outcome, _ in found)[False] > 0
    assert not list(tmp_path.rglob(fuzz_readers.EXECUTED))


@pytest.mark.parametrize("error", [KeyError("x"), GlossError("x" * 6000), None])
def test_other_exceptions_long_messages_and_changed_data_are_findings(error, tmp_path):
    def read(path):
        if error is not None:
            raise error
        return 5

    reader = Reader("r", [{"a.txt": b"abc"}], ["a.txt"], read, intact=lambda value: value == 6)
    assert run_case(0, 0, tmp_path / "case", [reader])[1] == (
        "other" if not isinstance(error, GlossError) else "GlossError"
    )
