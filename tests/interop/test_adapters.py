# SPDX-License-Identifier: Apache-2.0
"""Adapters beside PEFT and llama.cpp, on the tiny models: several at once."""
import pathlib
import shutil
import tempfile

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
import models
import numpy as np
import peers
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from test_same_files import PROBES

WEIGHTS = {"a": 0.7, "b": -0.4}


@pytest.fixture(scope="module")
def tiny(hone, tmp_path_factory):
    """name → (shape, its GGUF file, probes, their tokens)."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hone-adapters-"))
    probes = peers.write_texts(folder / "probes.jsonl", PROBES)

    def make(name):
        path = folder / f"{name}.gguf"
        if not path.exists():
            models.SHAPES[name].write_gguf(path)
        return models.SHAPES[name], path, probes, peers.examples_of(hone, path, probes)

    yield make
    shutil.rmtree(folder)


def check_close(ours, theirs, limit, what):
    worst = peers.largest_difference(ours, theirs)
    print(f"{what}: worst {worst:.2e}")
    assert worst <= limit, what


def check_llama_cpp(ours, hone, tiny, adapter):
    """As near as on the base alone, where llama.cpp rounds (GELU is a table of halves there)."""
    _, path, probes, examples = tiny
    base = peers.largest_difference(peers.hone_logprobs(hone, path, probes),
                                    peers.llama_logprobs(path, examples))
    print(f"llama.cpp, base: worst {base:.2e}")
    theirs = peers.llama_logprobs(path, examples, adapter)
    check_close(ours, theirs, max(1e-3, 4 * base), "llama.cpp, adapter")


def with_several(model, folders, weights):
    """PEFT's model with all of them active, each one's scale times its weight."""
    kind = model.get_input_embeddings().weight.dtype
    names = list(folders)
    adapted = PeftModel.from_pretrained(model, str(folders[names[0]]), adapter_name=names[0])
    for name in names[1:]:
        adapted.load_adapter(str(folders[name]), adapter_name=name)
    adapted.base_model.set_adapter(names)
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            for name in names:
                if name in module.scaling:
                    module.scaling[name] *= weights[name]
    return adapted.to(kind)


# ---- several at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["odd", "grouped", "gpt2-odd"])
def test_several_with_weights(hone, tiny, tmp_path, name):
    """Of different ranks, scales and targets; as they are, merged, and written as one."""
    shape, path, probes, examples = tiny(name)
    model = shape.transformers_model()
    few = ["c_attn"] if model.config.model_type == "gpt2" else ["q_proj", "down_proj"]
    folders = {"a": peers.make_adapter(model, tmp_path / "a", rank=3, alpha=5, seed=1),
               "b": peers.make_adapter(model, tmp_path / "b", rank=5, alpha=16, seed=2, targets=few)}
    given = [part for key, folder in folders.items()
             for part in ("--adapter", f"{folder}:{WEIGHTS[key]}")]
    ours = peers.hone_logprobs(hone, path, probes, *given)
    alone = peers.hone_logprobs(hone, path, probes, *given[:2])
    assert np.abs(np.concatenate(ours) - np.concatenate(alone)).mean() > 0.05
    peer = with_several(model.double(), folders, WEIGHTS)
    check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, both")

    one = {}
    for kind in ("peft", "gguf"):
        one[kind] = tmp_path / f"one-{kind}"
        peers.run_hone(hone, "convert", "--model", path, *given, "--to", kind, "--out", one[kind])
        again = peers.hone_logprobs(hone, path, probes, "--adapter", one[kind])
        check_close(ours, again, 1e-5, f"Hone, one {kind} adapter")
    peer = peers.with_adapter(shape.transformers_model().double(), one["peft"])
    ranks = {layer.r["default"] for layer in peer.modules() if isinstance(layer, LoraLayer)}
    assert ranks == {3, 8}
    check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, one adapter")
    check_llama_cpp(ours, hone, tiny(name), one["gguf"])

    merged = tmp_path / "merged.gguf"
    peers.run_hone(hone, "merge", "--model", path, *given, "--out", merged, "--type", "f32")
    check_close(ours, peers.hone_logprobs(hone, merged, probes), 1e-4, "Hone, merged")


def test_equal_scales_are_kept(hone, tiny, tmp_path):
    """Nothing is rounded then: A and B are the parts, side by side."""
    import safetensors.numpy

    shape, path, _, _ = tiny("odd")
    model = shape.transformers_model()
    folders = [peers.make_adapter(model, tmp_path / str(seed), rank=2, alpha=4, seed=seed)
               for seed in (1, 2)]
    peers.run_hone(hone, "convert", "--model", path, "--adapter", folders[0], "--adapter",
                   folders[1], "--to", "peft", "--out", tmp_path / "one")
    parts = [safetensors.numpy.load_file(f / "adapter_model.safetensors") for f in folders]
    joined = safetensors.numpy.load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert sorted(joined) == sorted(parts[0])
    for key, values in joined.items():
        axis = 0 if "lora_A" in key else 1
        assert np.array_equal(values, np.concatenate([part[key] for part in parts], axis)), key
