# SPDX-License-Identifier: Apache-2.0
"""hone attention: transformers' weights (output_attentions, eager), of every family, from folders and
GGUF files, with an adapter and without."""
import json
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
import decoders
import gpt2
import llama
import numpy as np
import peers
from transformers.utils import logging

TEXT = "Q: the end of it and the other thing? A: in the end it was re-read, on and on."
LIMIT = 1e-4  # of weights, which are 0 to 1
OLDER = {**gpt2.SHAPES, **llama.SHAPES}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def attention(hone, model, *options, text=TEXT):
    [map_] = peers.run_hone(hone, "attention", "--model", model, "--prompt", text, *options)
    return map_


def squares(rows):
    """[layer][head][query][key ≤ query] as an array."""
    T = len(rows[0][0])
    full = np.zeros((len(rows), len(rows[0]), T, T))
    for l, layer in enumerate(rows):
        for h, head in enumerate(layer):
            for i, row in enumerate(head):
                assert len(row) == i + 1
                full[l, h, i, :len(row)] = row
    return full


def theirs(model, tokens):
    model.set_attn_implementation("eager")
    with torch.no_grad(), peers.exact(model):
        found = model(torch.tensor([tokens]), output_attentions=True).attentions
    return np.stack([layer[0].double().numpy() for layer in found])


def compare(map_, model, side=None):
    ours, wanted = squares((side or map_)["weights"]), theirs(model, map_["tokens"])
    assert ours.shape == wanted.shape
    assert np.abs(ours - wanted).max() <= LIMIT
    logs = np.log(np.where(wanted > 0, wanted, 1))
    entropy = -(wanted * logs).sum(-1).mean(-1)
    places = np.arange(ours.shape[-1])
    distance = (wanted * np.abs(places[:, None] - places)).sum(-1).mean(-1)
    assert np.abs(np.array((side or map_)["entropy"]) - entropy).max() < 1e-3
    assert np.abs(np.array((side or map_)["distance"]) - distance).max() < 1e-2
    mean = squares([[layer] for layer in (side or map_)["average"]])[:, 0]
    assert np.abs(mean - ours.mean(1)).max() < 1e-6
    return ours


@pytest.mark.parametrize("name", decoders.SHAPES)
def test_decoders(hone, tmp_path, name):
    """Grouped heads, windows, soft-caps, scales, scaled positions."""
    shape = decoders.SHAPES[name]
    folder = shape.save(tmp_path / "hf")
    model = shape.transformers_model().double()
    map_ = attention(hone, folder)
    window = shape.options.get("sliding_window") or 0
    assert len(map_["tokens"]) > window or window == 200
    compare(map_, model)
    peers.run_hone(hone, "convert", folder, "--to", "gguf", "--out", tmp_path / "own.gguf")
    compare(attention(hone, tmp_path / "own.gguf"), model)


@pytest.mark.parametrize("name", OLDER)
def test_llama_and_gpt2(hone, tmp_path, name):
    shape = OLDER[name]
    path = shape.write_gguf(tmp_path / "tiny.gguf")
    compare(attention(hone, path), shape.transformers_model().double())


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "phi3-window", "smollm3"])
def test_adapters(hone, tmp_path, name):
    """With the adapter, without, and what lies between."""
    shape = decoders.SHAPES[name]
    folder = shape.save(tmp_path / "hf")
    plain = shape.transformers_model()
    adapter = peers.make_adapter(plain, tmp_path / "adapter")
    map_ = attention(hone, folder, "--adapter", adapter)
    base = compare(map_, plain.double(), map_["base"])
    adapted = peers.with_adapter(shape.transformers_model().double(), adapter)
    found = compare(map_, adapted.get_base_model())
    difference = squares(map_["difference"]["weights"])
    assert np.abs(difference - (found - base)).max() < 1e-6
    assert np.abs(difference).max() > 0.01
    change = np.abs(found - base).sum(-1).mean(-1) / 2
    assert np.abs(np.array(map_["difference"]["change"]) - change).max() < 1e-5


def test_the_reference_model(hone, model):
    """Quantised weights, one layer and one head of it."""
    text = "The cat sat on the mat because it was tired."
    map_ = attention(hone, model, "--layer", 3, "--head", 7, text=text)
    assert (map_["layers"], map_["heads"]) == ([3], [7])
    wanted = theirs(peers.reference_model(model), map_["tokens"])[3, 7]
    assert np.abs(squares(map_["weights"])[0, 0] - wanted).max() <= LIMIT
    whole = attention(hone, model, text=text)
    assert whole["weights"][3][7] == map_["weights"][0][0]
    assert math.isclose(whole["entropy"][3][7], map_["entropy"][0][0])
    assert json.dumps(whole["average"]) != json.dumps(map_["average"])
