import pytest
from pydantic import ValidationError
from tiny_data import make_documents, make_target

from gloss.contract import read_dataset_sidecar
from gloss.data import ExtractConfig, SplitConfig, extract, read_activations, split
from gloss.data.split import SPLITS, assign
from gloss.errors import DatasetError, ResumeError

CONFIG = SplitConfig(av_sft=0.25, ar_sft=0.25, rl=0.25, heldout=0.25, seed=1)


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    out = tmp_path_factory.mktemp("activations")
    extract(
        ExtractConfig(min_position=5, positions_per_doc=3, shard_documents=25),
        make_target(),
        make_documents(80),
        out,
    )
    return out


def test_every_row_lands_in_one_part_and_documents_are_never_divided(activations, tmp_path):
    result = split(CONFIG, activations, tmp_path)
    parts = {name: read_activations(result.paths[name]) for name in SPLITS}
    whole = read_activations(activations)
    assert sum(len(part) for part in parts.values()) == len(whole)
    ids = {name: set(part["doc_id"].to_pylist()) for name, part in parts.items()}
    assert sum(map(len, ids.values())) == len(set(whole["doc_id"].to_pylist()))
    for name, part in parts.items():
        assert all(assign(doc_id, CONFIG) == name for doc_id in ids[name])
        places = [
            (row["doc_id"], row["position"])
            for row in whole.to_pylist()
            if row["doc_id"] in ids[name]
        ]
        assert [(row["doc_id"], row["position"]) for row in part.to_pylist()] == places
        sidecar = read_dataset_sidecar(result.paths[name])
        assert sidecar.row_count == len(part) == result.rows[name]
        assert sidecar.parent_datasets == (read_dataset_sidecar(activations).dataset_id,)
        assert (
            sidecar.norm_statistics["max"]
            <= read_dataset_sidecar(activations).norm_statistics["max"] + 1e-5
        )
    assert result.documents == {name: len(found) for name, found in ids.items()}


def test_same_seed_same_bytes_and_a_second_run_keeps_the_files(activations, tmp_path):
    first = split(CONFIG, activations, tmp_path / "a")
    stamps = {name: path.stat().st_mtime_ns for name, path in first.paths.items()}
    assert split(CONFIG, activations, tmp_path / "a") == first
    assert stamps == {name: path.stat().st_mtime_ns for name, path in first.paths.items()}
    second = split(CONFIG, activations, tmp_path / "b")
    assert all(first.paths[name].read_bytes() == second.paths[name].read_bytes() for name in SPLITS)


def test_other_settings_are_refused(activations, tmp_path):
    split(CONFIG, activations, tmp_path)
    with pytest.raises(ResumeError, match="seed = 1 there, 2 here"):
        split(CONFIG.model_copy(update={"seed": 2}), activations, tmp_path)


def test_shares_are_met_on_many_documents():
    config = SplitConfig(av_sft=0.5, ar_sft=0.2, rl=0.3, heldout=0.0)
    found = [assign(f"doc:{i}", config) for i in range(10_000)]
    for name, share in config.shares.items():
        assert abs(found.count(name) / 10_000 - share) < 0.015
    assert "heldout" not in found


def test_shares_must_add_up():
    with pytest.raises(ValidationError, match=r"must add up to 1, they add up to 1\.2"):
        SplitConfig(av_sft=0.5, ar_sft=0.3, rl=0.3, heldout=0.1)


def test_too_few_documents_for_a_part_are_refused_and_leave_no_files(tmp_path):
    extract(ExtractConfig(min_position=0), make_target(), make_documents(1), tmp_path / "one")
    with pytest.raises(DatasetError, match=r"no document for .* and .*1 documents in all"):
        split(CONFIG, tmp_path / "one", tmp_path / "out")
    assert not [
        path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".gloss.")
    ]
