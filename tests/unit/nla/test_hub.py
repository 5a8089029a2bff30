"""NLAs on the hub: which files are fetched, from which revision, and one clear line where they
cannot be.
"""

import shutil

import pytest
import torch
from hub_stand_in import fill_cache
from huggingface_hub import constants

import gloss
from gloss.errors import CheckpointError, ConfigError
from gloss.nla.place import find_nla
from gloss.release.publish import pull

NAME = "kitft/nla-tiny-L2"
TEXT = "The mood is calm and Ada is here while it rains at the harbor"


@pytest.fixture
def served(hub, nla_folder):
    """The tiny NLA under ``NAME`` with -av and -ar behind it, and its target."""
    hub.add(f"{NAME}-av", nla_folder / "av")
    hub.add(f"{NAME}-ar", nla_folder / "ar")
    hub.add("owner/target", nla_folder / "target")
    return hub


def one_line(error) -> str:
    line = str(error.value)
    assert "\n" not in line
    return line


def test_a_name_means_two_repositories_and_opening_fetches_nothing_but_sidecars(served):
    nla = gloss.load(NAME)
    assert (nla.places.av.name, nla.places.ar.name) == (f"{NAME}-av", f"{NAME}-ar")
    assert served.fetched() == [f"{NAME}-ar/nla_meta.yaml", f"{NAME}-av/nla_meta.yaml"]


def test_reading_fetches_no_weights_of_the_ar_and_scoring_none_of_the_av(served):
    nla = gloss.load(NAME, target="owner/target")
    vector = torch.randn(1, nla.sidecar.d_model, generator=torch.Generator().manual_seed(0))
    nla.explain(TEXT, score=False)
    assert served.fetched(".safetensors") == [
        f"{NAME}-av/model.safetensors",
        "owner/target/model.safetensors",
    ]
    served.requested.clear()
    gloss.load(NAME).score(["calm"], vector)
    assert served.fetched(".safetensors") == [
        f"{NAME}-ar/model.safetensors",
        f"{NAME}-ar/value_head.safetensors",
    ]


def test_what_is_fetched_gives_the_numbers_of_the_folder(served, nla_folder):
    there, here = (
        gloss.load(NAME).reconstruct(["calm"]),
        gloss.load(nla_folder).reconstruct(["calm"]),
    )
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-4)


def test_each_part_can_be_named_by_itself(served, nla_folder):
    nla = gloss.load(av=f"{NAME}-av", ar=nla_folder / "ar", target=nla_folder / "target")
    assert nla.explain(TEXT)[0].response
    assert nla.reconstruct(["x"]).shape == (1, nla.sidecar.d_model)
    assert not [path for path in served.fetched() if path.startswith(f"{NAME}-ar")]
    with pytest.raises(ConfigError, match="no NLA named"):
        gloss.load()


def test_one_repository_can_hold_both_halves(hub, nla_folder):
    for half in ("av", "ar"):
        hub.add("owner/both", nla_folder / half, inside=f"{half}/")
    nla = gloss.load("owner/both")
    assert [str(place) for place in (nla.places.av, nla.places.ar)] == [
        "owner/both/av",
        "owner/both/ar",
    ]
    nla.reconstruct(["x"])
    assert [path for path in hub.fetched(".safetensors") if "/av/" in path] == []


def test_folders_beside_one_another_are_halves(nla_folder, tmp_path):
    for half in ("av", "ar"):
        shutil.copytree(nla_folder / half, tmp_path / "other" / f"mine-{half}")
    for name in ("mine", "mine-av", "mine-ar"):
        nla = gloss.load(tmp_path / "other" / name)
        assert (nla.places.av.name, nla.places.ar.name) == tuple(
            str(tmp_path / "other" / f"mine-{h}") for h in ("av", "ar")
        )


def test_a_revision_is_that_of_both_halves(hub, nla_folder):
    for half in ("av", "ar"):
        hub.add(f"{NAME}-{half}", nla_folder / half, revision="v1")
    with pytest.raises(CheckpointError, match="no such revision"):
        gloss.load(NAME)
    for nla in (gloss.load(NAME, revision="v1"), gloss.load(f"{NAME}@v1")):
        assert {nla.places.av.revision, nla.places.ar.revision} == {"v1"}
    commit = hub.repos[f"{NAME}-ar"].commit("v1")
    assert commit in str(pull(f"{NAME}@v1")["ar"])
    with pytest.raises(CheckpointError) as error:
        gloss.load(f"{NAME}@v2")
    assert "no such revision" in one_line(error)


def test_a_repository_that_is_not_there_is_named(served):
    with pytest.raises(CheckpointError) as error:
        gloss.load("owner/nothing")
    assert "owner/nothing: no NLA here" in one_line(error)
    with pytest.raises(CheckpointError) as error:
        _ = gloss.load(NAME, target="owner/no-target").target
    assert "owner/no-target: no such repository on the hub" in one_line(error)


def test_a_gated_repository_asks_for_consent(hub, nla_folder):
    for half in ("av", "ar"):
        hub.add(f"{NAME}-{half}", nla_folder / half, gated=True)
    with pytest.raises(CheckpointError) as error:
        gloss.load(NAME)
    assert "asks for your consent" in one_line(error)
    assert "HF_TOKEN" in one_line(error)


def test_files_that_lead_out_of_the_repository_are_not_written(hub, nla_folder, hub_cache):
    repo = hub.add("owner/bad-ar", nla_folder / "ar")
    repo.revisions["main"]["../../../../escaped.json"] = b"{}"
    for half in ("av", "ar"):
        hub.add("owner/both", nla_folder / half, inside=f"{half}/")
    hub.repos["owner/both"].revisions["main"]["ar/../../../../../escaped.json"] = b"{}"
    assert set(pull("owner/bad-ar")) == {"ar"}
    assert set(pull("owner/both")) == {"av", "ar"}
    assert not list(hub_cache.parent.rglob("escaped.json"))
    assert not [path for path in hub.requested if "escaped" in path]


def test_pickles_and_code_are_not_fetched(hub, nla_folder):
    repo = hub.add("owner/x-ar", nla_folder / "ar")
    repo.revisions["main"] |= {
        "pytorch_model.bin": b"x",
        "modeling.py": b"x",
        "consolidated.safetensors": b"x",
    }
    folder = pull("owner/x-ar")["ar"]
    assert not [
        p.name for p in folder.iterdir() if p.suffix in (".bin", ".py") or "consolidated" in p.name
    ]


def test_a_network_that_is_down_is_one_line_and_is_asked_once(hub_cache, nla_folder, monkeypatch):
    waited = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waited.append)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(CheckpointError) as error:
        gloss.load(NAME)
    assert "not in the cache, and the hub cannot be reached" in one_line(error)
    assert f"gloss nla pull {NAME}" in one_line(error)
    once = len(waited)
    with pytest.raises(CheckpointError):
        gloss.load(av=f"{NAME}-av")
    assert 0 < len(waited) - once == once
    for half in ("av", "ar"):
        fill_cache(hub_cache, "owner/both", nla_folder / half, inside=f"{half}/")
    assert gloss.load("owner/both").reconstruct(["x"]).shape[0] == 1


# ---- from the cache, without a network


def test_offline_the_cache_is_enough(hub_cache, nla_folder):
    for half in ("av", "ar"):
        fill_cache(hub_cache, f"{NAME}-{half}", nla_folder / half)
    fill_cache(hub_cache, "owner/target", nla_folder / "target")
    nla = gloss.load(NAME, target="owner/target")
    assert nla.explain(TEXT)[0].response
    torch.testing.assert_close(
        nla.reconstruct(["x"]), gloss.load(nla_folder).reconstruct(["x"]), rtol=1e-5, atol=1e-4
    )


def test_offline_what_is_not_in_the_cache_says_how_to_fetch_it(hub_cache):
    with pytest.raises(CheckpointError) as error:
        gloss.load(NAME)
    assert one_line(error).startswith(f"{NAME}-av: not in the cache")
    assert f"gloss nla pull {NAME}" in one_line(error)


def test_offline_one_half_in_the_cache_is_enough_to_use_that_half(hub_cache, nla_folder):
    fill_cache(hub_cache, f"{NAME}-av", nla_folder / "av")
    nla = gloss.load(NAME, target=nla_folder / "target")
    assert nla.explain(TEXT)[0].response
    with pytest.raises(CheckpointError) as error:
        nla.reconstruct(["x"])
    assert one_line(error).startswith(f"{NAME}-ar: not in the cache")


def test_offline_a_revision_is_found_by_its_name_and_by_its_commit(hub_cache, nla_folder):
    commits = {
        half: fill_cache(hub_cache, f"{NAME}-{half}", nla_folder / half, revision="v1")
        for half in ("av", "ar")
    }
    with pytest.raises(CheckpointError, match="not in the cache"):
        gloss.load(NAME)
    assert commits["av"] in str(pull(f"{NAME}-av@v1")["av"])
    assert commits["av"] in str(pull(f"{NAME}-av", revision=commits["av"])["av"])
    assert gloss.load(f"{NAME}@v1").reconstruct(["x"]).shape[0] == 1


# ---- checkpoints that the reference made, under the names of released ones


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_the_references_checkpoints_read_under_released_names(golden, hub, family):
    for half in ("av", "ar"):
        hub.add(f"kitft/nla-{family}-L3-{half}", golden / family / half)
    hub.add(f"example/{family}", golden / family / "base")
    nla = gloss.load(f"kitft/nla-{family}-L3", target=f"example/{family}")
    nla.max_new_tokens = 4
    assert nla.layer == 3
    assert nla.explain("A short phrase about rivers and the sea.", score=False)[0].response
    torch.testing.assert_close(
        nla.reconstruct(["A short phrase."]),
        gloss.load(golden / family).reconstruct(["A short phrase."]),
        rtol=1e-5,
        atol=1e-4,
    )


def test_a_mistyped_folder_beside_others_is_not_looked_for_on_the_hub(nla_folder, monkeypatch):
    (nla_folder / "runs" / "smoke").mkdir(parents=True)
    (nla_folder / "av").rename(nla_folder / "runs" / "smoke" / "av")
    (nla_folder / "runs" / "other").mkdir()
    monkeypatch.chdir(nla_folder)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked")
    )
    with pytest.raises(
        CheckpointError, match=r"runs/standard: no such folder: expected one of smoke\."
    ):
        find_nla("runs/standard")


def test_a_relative_folder_is_never_looked_for_on_the_hub(nla_folder, monkeypatch):
    """``run`` with ``run/nla/av`` inside must not be read as the repository ``run/av``, nor
    ``run-ar`` as one.
    """
    run = nla_folder / "run"
    (run / "nla").mkdir(parents=True)
    (nla_folder / "av").rename(run / "nla/av")
    monkeypatch.chdir(nla_folder)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked")
    )
    places = find_nla("run")
    assert places.av is not None
    assert places.ar is None
    (run / "nla/av").rename(nla_folder / "mine-av")
    assert find_nla("mine").ar is None
