"""What cannot be read rightly is refused by name: weights that are no numbers, activations of
another layer, numbers that a narrower format cannot hold."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tiny_nla import D_MODEL, write_rows

from gloss.contract import TrustRecord
from gloss.errors import CheckpointError, CorpusError, GlossError
from gloss.models import load_ar, load_av
from gloss.nla import NLA
from gloss.reading.explain import open_for
from gloss.release.convert import ConvertOptions, convert
from gloss.release.validate import validate
from gloss.target_model import load_target


def damaged(folder, value):
    """Puts one value into a weight of a checkpoint; its name."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    weights[name][0, 3] = value
    save_file(weights, file, {"format": "pt"})
    return name


@pytest.mark.invariant("loading-9")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("half", "load"), [("av", load_av), ("ar", load_ar), ("target", load_target)]
)
def test_weights_that_are_no_numbers_are_refused_by_name(nla_folder, half, load, value):
    load(nla_folder / half)
    name = damaged(nla_folder / half, value)
    with pytest.raises(CheckpointError) as error:
        load(nla_folder / half)
    assert name.removeprefix("model.") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.invariant("loading-9")
def test_a_conversion_that_would_write_infinity_names_the_tensor(nla_folder, tmp_path):
    name = damaged(nla_folder / "av", 1e6)
    for dtype in ("bfloat16", "float32"):
        convert(nla_folder / "av", tmp_path / dtype, ConvertOptions(dtype=dtype))
    with pytest.raises(GlossError, match=name.rsplit(".", 2)[-2]):
        convert(nla_folder / "av", tmp_path / "float16", ConvertOptions(dtype="float16"))
    assert not (tmp_path / "float16").exists()


@pytest.mark.invariant("loading-9")
def test_a_file_of_another_layer_is_not_opened_for_an_nla(nla_folder, lab_tokenizer, tmp_path):
    vectors = torch.randn(3, D_MODEL, generator=torch.Generator().manual_seed(0)).numpy()
    rows = write_rows(tmp_path / "rows.parquet", lab_tokenizer, vectors.astype(np.float32))
    assert open_for(NLA(nla_folder), rows).num_rows == 3
    table = pq.read_table(rows)
    at = table.schema.get_field_index("activation_layer")
    other = table.set_column(at, "activation_layer", pa.array([1] * 3, table.schema.field(at).type))
    pq.write_table(other, rows)
    with pytest.raises(GlossError, match="layer"):
        open_for(NLA(nla_folder), rows)


@pytest.mark.invariant("loading-9")
def test_an_explanation_beyond_the_ars_context_is_refused(nla_folder):
    ar = load_ar(nla_folder / "ar")
    longest = ar.backbone.config.max_position_embeddings
    with pytest.raises(
        CorpusError, match=f"explanation 1: too long for the AR: .*{longest} tokens"
    ):
        ar.encode(["a boat", "boat " * longest])
    assert ar.encode(["a boat"])


@pytest.mark.invariant("loading-9")
@pytest.mark.parametrize("value", [1.01, 5.0, 0.0, -1.0, float("nan")])
def test_a_variance_of_directions_that_cannot_be_is_refused(value):
    TrustRecord(direction_variance=0.9)
    with pytest.raises(ValidationError):
        TrustRecord(direction_variance=value)


@pytest.mark.invariant("loading-9")
def test_the_sidecar_of_the_other_half_fails_validation(nla_folder):
    assert not [line for line in validate(nla_folder).failed if line.check == "sidecar"]
    file = nla_folder / "av" / "nla_meta.yaml"
    file.write_text(file.read_text().replace("role: av", "role: ar"))
    said = [line for line in validate(nla_folder).failed if line.check == "sidecar"]
    assert "the sidecar of the other half" in str(said)
