"""The smoke preset, run once on the shipped lab target and shared by the tests here."""

import pytest

from gloss.pipeline.run_config import preset_path, read_config
from gloss.pipeline.runner import run


@pytest.fixture(scope="session")
def small_config():
    return read_config(preset_path("smoke"))


@pytest.fixture(scope="session")
def small_run(small_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run(small_config, folder)
    return folder


@pytest.fixture(scope="session")
def nla(small_run):
    import gloss

    return gloss.load(small_run)
