"""Names in a config stand for what is installed, or for the user's own ``module:name``; the lab is
one plug-in among them.
"""

import tomllib
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from gloss import plugins
from gloss.data import LabelConfig
from gloss.errors import ConfigError, CorpusError
from gloss.pipeline.run_config import CorpusConfig
from gloss.providers import ExtractiveLabeller, LabelRequest

GROUPS = ("targets", "corpora", "labellers", "judges", "examples", "commands")
OWN = """
class Mine:
    name = "mine"
    needs_next_tokens = False

    def __init__(self, word, seed):
        self.settings = {"word": word, "seed": seed}

    def label(self, requests):
        return [f"{self.settings['word']} {request.token}" for request in requests]


class NoLabeller:
    pass


class Incomplete:
    def label(self, requests):
        return []


def a_function():
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_labeller.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def declared(pytestconfig):
    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    return project["entry-points"]


def test_every_declared_entry_point_can_be_loaded_and_is_installed(pytestconfig):
    groups = declared(pytestconfig)
    assert sorted(groups) == sorted(f"gloss.{group}" for group in GROUPS)
    for group, entries in groups.items():
        for name, value in entries.items():
            assert plugins.load(group, name) is EntryPoint(name, value, group).load()
            assert name in plugins.installed(group)


def test_an_unknown_name_lists_what_is_installed():
    with pytest.raises(
        ConfigError, match=r"unknown labeller: expected .*extractive, lab.*, found 'labb'"
    ):
        LabelConfig(labeller="labb").make_labeller()


def test_without_the_lab_everything_else_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "entry_points", lambda **_: EntryPoints())
    assert plugins.target_place("lab") == "lab"
    assert plugins.known_truth() is None
    assert plugins.find("gloss.judges", "lab") is None
    with pytest.raises(CorpusError, match="no such corpus"):
        CorpusConfig(source="lab").documents(0)
    with pytest.raises(ConfigError, match=r"unknown labeller: expected .*none"):
        LabelConfig(labeller="lab").make_labeller()


def test_the_labs_target_and_corpus_are_found_by_name():
    assert plugins.target_place("lab").endswith("target_model")
    assert plugins.target_place("owner/name") == "owner/name"
    documents = list(CorpusConfig(source="lab", max_documents=2).documents(5))
    assert [document.doc_id for document in documents] == ["lab-5-000000", "lab-5-000001"]
    with pytest.raises(ConfigError, match=r"corpus\.max_documents is needed"):
        CorpusConfig(source="lab").documents(0)


def test_a_seed_reaches_the_labellers_that_draw():
    assert LabelConfig(labeller="lab", seed=7).make_labeller().settings["seed"] == 7
    lab = LabelConfig(labeller="lab", seed=7, settings={"seed": 3}).make_labeller()
    assert lab.settings["seed"] == 3
    assert LabelConfig(seed=7).make_labeller() == ExtractiveLabeller()


def test_settings_that_a_labeller_does_not_know_are_refused():
    with pytest.raises(ConfigError, match=r"wrong label\.settings.*'words'"):
        LabelConfig(settings={"words": 3}).make_labeller()


def test_a_labeller_of_ones_own_is_found_in_the_current_folder(own):
    config = LabelConfig(labeller="own_labeller:Mine", settings={"word": "about"}, seed=2)
    labeller = config.make_labeller()
    request = LabelRequest(doc_id="d", text="a b", position=1, token="b")
    assert labeller.label([request]) == ["about b"]
    assert labeller.settings == {"word": "about", "seed": 2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_labeller:Missing", "cannot import"),
        ("no_such_module:Mine", "cannot import"),
        (":Mine", "cannot import"),
        ("own_labeller:NoLabeller", "is no labeller"),
        ("own_labeller:Incomplete", "found none called name"),
        ("own_labeller:a_function", "is no labeller"),
        ("subprocess:Popen", "is no labeller"),
    ],
)
def test_what_is_no_labeller_is_refused_before_it_is_called(own, name, message):
    with pytest.raises(ConfigError, match=message):
        LabelConfig(labeller=name).make_labeller()
