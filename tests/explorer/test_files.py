"""Files of vectors as the page reads them, against what NumPy and safetensors write."""

import base64
import io

import numpy as np
import pytest
import torch
from safetensors.torch import save

READ = """async ([name, data]) => {
  const m = await import('http://gloss.test/js/files.js');
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  try {
    const values = (v) => Array.from({length: v.rows}, (_, i) => v.at(i));
    return m.readVectors(name, bytes.buffer).map((v) => ({name: v.name, rows: v.rows, width: v.width, values: values(v)}));
  } catch (error) { return error instanceof m.FileProblem ? error.message : 'unexpected: ' + error; }
}"""


def read(modules, name, content):
    return modules.page.evaluate(READ, [name, base64.b64encode(content).decode()])


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_npy_vectors_are_what_numpy_wrote(modules, dtype):
    array = np.random.default_rng(0).normal(size=(3, 5)).astype(dtype)
    array[0, 0], array[0, 1], array[0, 2] = 6e-8, -65504, 0
    (found,) = read(modules, "x.npy", npy(array))
    assert (found["rows"], found["width"]) == (3, 5)
    assert np.array_equal(np.array(found["values"], dtype=dtype), array)


def test_one_npy_vector_is_one_row(modules):
    (found,) = read(modules, "x.npy", npy(np.ones(4, dtype=np.float32)))
    assert (found["rows"], found["width"]) == (1, 4)


def test_safetensors_of_every_width_of_float(modules):
    rows = torch.randn(2, 4)
    tensors = {
        "a": rows,
        "b": rows.bfloat16(),
        "c": rows.half(),
        "d": rows.double(),
        "ids": torch.arange(3),
    }
    found = {one["name"]: one["values"] for one in read(modules, "x.safetensors", save(tensors))}
    assert set(found) == {"a", "b", "c", "d"}
    for name, values in found.items():
        assert torch.equal(torch.tensor(values, dtype=torch.float64), tensors[name].double())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.npy", b"nothing", "not a NumPy file"),
        ("x.npy", npy(np.arange(4)), "expected float16, float32 or float64"),
        ("x.npy", npy(np.ones((2, 2, 2), np.float32)), "3 axes"),
        ("x.npy", npy(np.asfortranarray(np.ones((2, 3), np.float32))), "stored by column"),
        ("x.npy", npy(np.ones((4, 4), np.float32))[:-8], "cut off"),
        ("x.npy", npy(np.ones((0, 4), np.float32)), "no vectors"),
        ("x.safetensors", b"\xff" * 20, "cut off"),
        ("x.safetensors", save({"ids": torch.arange(3)}), "No tensor"),
        ("x.safetensors", save({"a": torch.ones(4, 4)})[:-8], "cut off"),
        ("x.pt", b"PK", "not a file of vectors"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(modules, name, content, said):
    assert said in read(modules, name, content)
