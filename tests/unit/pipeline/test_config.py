import pytest

from gloss.errors import ConfigError, ResumeError
from gloss.pipeline.run_config import PRESETS, preset_path, read_config
from gloss.pipeline.runner import RunFolder, plan_text

REPO_CONFIGS = "configs"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_shipped_preset_is_valid_and_names_itself(preset):
    config = read_config(preset_path(preset))
    assert config.name == preset
    assert config.target == "lab"


def test_every_config_in_the_repository_is_valid(pytestconfig):
    files = sorted((pytestconfig.rootpath / REPO_CONFIGS).glob("*.toml"))
    assert files
    for file in files:
        assert read_config(file).name == file.stem


def test_the_runs_seed_reaches_every_stage_that_does_not_set_its_own():
    config = read_config(preset_path("standard"), ["seed=7", "joint.seed=3"])
    assert (
        config.seed
        == config.extract.seed
        == config.split.seed
        == config.av_sft.seed
        == config.evaluate.seed
        == 7
    )
    assert config.joint.seed == 3


def test_an_override_changes_one_setting_and_the_hash():
    plain, changed = (
        read_config(preset_path("standard"), sets) for sets in ([], ["joint.steps=3"])
    )
    assert changed.joint.steps == 3
    assert changed.hash != plain.hash
    assert plain.hash == read_config(preset_path("standard")).hash


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("joint.stepz=3", "unknown key 'joint.stepz'"),
        ("joint.steps=0", "joint.steps"),
        ("joint.steps=many", "joint.steps"),
        ("split.rl=0.9", "split"),
        ("nonsense", "cannot read an override"),
        ("target.x=1", "cannot read an override"),
        ("build.av_template=no marker", "av_template"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_the_key(override, message):
    with pytest.raises(ConfigError) as caught:
        read_config(preset_path("standard"), [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_toml_names_the_file(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text("name = [")
    with pytest.raises(ConfigError, match=r"x\.toml: not a TOML file"):
        read_config(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "missing.toml")


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="smoke, standard, thorough"):
        preset_path("huge")


def test_a_folder_of_another_run_is_refused_with_the_difference(tmp_path):
    RunFolder(tmp_path).open(read_config(preset_path("standard")))
    with pytest.raises(ResumeError, match=r"joint\.steps = \d+ there, 3 here"):
        RunFolder(tmp_path).open(read_config(preset_path("standard"), ["joint.steps=3"]))


def test_a_finished_stage_is_not_run_again(tmp_path):
    config, ran = read_config(preset_path("standard")), []
    for _ in range(2):
        folder = RunFolder(tmp_path)
        folder.open(config)
        folder.stage("extract_activations", lambda: ran.append(1))
    assert ran == [1]
    assert "extract_activations  done" in plan_text(config, tmp_path)
