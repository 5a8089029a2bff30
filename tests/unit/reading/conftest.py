import pytest
from tiny_models import random_model
from tiny_nla import NUM_BLOCKS, make_ar, make_av

from gloss.models import save_ar, save_av


@pytest.fixture
def nla_folder(tmp_path, lab_tokenizer):
    """A folder with ``target``, ``av`` and ``ar`` of one random Qwen2 that nothing was trained on."""
    recorded = {"norm_statistics": {"p99": 50.0}, "min_position": 12, "max_new_tokens": 4, "direction_variance": 1.0}
    random_model(vocab_size=len(lab_tokenizer), num_blocks=NUM_BLOCKS).save_pretrained(tmp_path / "target")
    lab_tokenizer.save_pretrained(tmp_path / "target")
    save_av(make_av(lab_tokenizer, extra={"gloss": recorded}), tmp_path / "av")
    save_ar(make_ar(lab_tokenizer), tmp_path / "ar")
    return tmp_path
