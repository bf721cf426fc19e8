# SPDX-License-Identifier: Apache-2.0
"""The decoder families: transformers' numbers, gradients and steps in f64, from transformers' folders
and from GGUF files of llama.cpp's converter and of Hone; what Hone writes for them in llama.cpp, PEFT
and transformers.

Shapes that llama.cpp computes in another way (it has no windows in most of these families, and no
biases in some) are compared with transformers alone.
"""
import importlib
import json
import shutil
import subprocess

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")
gguf = pytest.importorskip("gguf")
import decoders
import numpy as np
import peers
import safetensors.numpy
from test_same_files import PROBES, flat
from test_same_model import TINY_TEXTS
from test_same_training import ALIKE, LINES, compare_gradients, gradients, peer_gradients
from transformers import AutoModelForCausalLM
from transformers.utils import logging

assert gradients  # a fixture
STEPS = 20
NAMES = list(decoders.SHAPES)
IN_LLAMA_CPP = [name for name, shape in decoders.SHAPES.items() if shape.in_llama_cpp]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """name → (shape, folder of transformers, GGUF file of llama.cpp's converter)."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    root, made = tmp_path_factory.mktemp("families"), {}
    for name, shape in decoders.SHAPES.items():
        (root / name).mkdir()
        made[name] = shape, shape.save(root / name / "hf"), root / name / "tiny.gguf"
    decoders.convert([made[name][1:] for name in IN_LLAMA_CPP])
    return made


def data(path, texts):
    return peers.write_texts(path / f"{len(texts)}-{len(texts[0])}.jsonl", texts)


def convert(hone, source, out, to):
    peers.run_hone(hone, "convert", source, "--to", to, "--out", out)
    return out


def values_of(path):
    return {t.name: (t.shape.tolist(), t.data) for t in gguf.GGUFReader(path).tensors}


def llama_limit(name):
    """llama.cpp looks GELU up in a table of 16-bit numbers."""
    return 5e-3 if name.startswith("gemma") else 1e-3


def make_adapter(shape, model, folder):
    experts = decoders.KINDS[shape.kind].experts
    return (decoders.write_expert_adapter if experts else peers.make_adapter)(model, folder)


def with_adapter(shape, model, adapter):
    adapted = peers.with_adapter(model, adapter, trainable=True)
    experts = decoders.KINDS[shape.kind].experts
    return decoders.part_experts(adapted, model.config) if experts else adapted


@pytest.mark.parametrize("name", NAMES)
def test_logprobs(hone, files, tmp_path, name):
    """The same from the folder, from the converter's file and from Hone's."""
    shape, folder, converted = files[name]
    own = convert(hone, folder, tmp_path / "own.gguf", "gguf")
    texts = data(tmp_path, TINY_TEXTS)
    examples = peers.examples_of(hone, folder, texts)
    theirs = peers.torch_logprobs(shape.transformers_model().double(), examples)
    for path in [folder, own] + [converted] * shape.in_llama_cpp:
        ours = peers.hone_logprobs(hone, path, texts)
        assert peers.largest_difference(ours, theirs) <= 1e-4, path
    if not shape.in_llama_cpp:
        return
    mine, wanted = values_of(own), values_of(converted)
    assert set(mine) == set(wanted)
    for tensor, (sides, values) in wanted.items():
        assert mine[tensor][0] == sides, tensor
        assert np.allclose(mine[tensor][1], values, rtol=1e-6, atol=0), tensor
    for path in (own, converted):
        there = peers.llama_logprobs(path, examples)
        assert peers.largest_difference(ours, there) <= llama_limit(name), path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("texts", [LINES, ALIKE], ids=["packed", "alike"])
def test_gradients(hone, files, gradients, tmp_path, name, texts):
    """Every tensor's: of all weights, and of adapters on all matrices. Packed examples, and such as
    begin alike, which Hone lays out as a trie."""
    shape, folder, _ = files[name]
    own = convert(hone, folder, tmp_path / "own.gguf", "gguf")
    lines = data(tmp_path, texts)
    examples = peers.examples_of(hone, own, lines)
    model = shape.transformers_model().double()
    result, ours = gradients(own, lines, tmp_path / "gradients", "full")
    loss, theirs = peer_gradients(model, examples, model.config)
    assert abs(result["loss"] - loss) < 1e-5 * loss
    compare_gradients(ours, theirs)

    plain = shape.transformers_model()
    adapter = make_adapter(shape, plain, tmp_path / "adapter")
    result, ours = gradients(own, lines, tmp_path / "gradients", adapter)
    adapted = with_adapter(shape, plain.double(), adapter)
    loss, theirs = peer_gradients(adapted, examples, plain.config)
    adapted = len(decoders.KINDS[shape.kind].adapted) * shape.layers
    if decoders.KINDS[shape.kind].experts:
        sparse = decoders.sparse_layers(shape.transformers_model())
        adapted = 4 * shape.layers + 3 * plain.config.num_experts * len(sparse)
    assert len(theirs) == 2 * adapted
    assert abs(result["loss"] - loss) < 1e-5 * loss
    compare_gradients(ours, theirs)


@pytest.mark.parametrize("name", [n for n in NAMES if "moe" in n])
@pytest.mark.parametrize("parts", [1, 3])
def test_router_loss(hone, files, gradients, tmp_path, name, parts):
    """The loss for an even use of experts and its gradient. Hone does not compute what follows from
    an example's last token."""
    shape, folder, _ = files[name]
    lines = data(tmp_path, [line for i, line in enumerate(LINES)
                            if line[:1] not in {other[:1] for other in LINES[:i]}][:9])
    examples = peers.examples_of(hone, folder, lines)
    model = shape.transformers_model().double()
    model.zero_grad()
    targets = sum(len(t) for _, t in examples)
    loss, size = 0, -(-len(examples) // parts)
    module = importlib.import_module(type(model).__module__)
    with peers.exact(model):
        for part in (examples[i:i + size] for i in range(0, len(examples), size)):
            longest = max(len(tokens) for tokens, _ in part) - 1
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
            for row, (tokens, learnt) in enumerate(part):
                ids[row, :len(tokens) - 1] = torch.tensor(tokens[:-1])
                mask[row, :len(tokens) - 1] = 1
                labels[row, torch.tensor(learnt) - 1] = torch.tensor(tokens)[learnt]
            out = model(input_ids=ids, attention_mask=mask, output_router_logits=True)
            part_loss = torch.nn.functional.cross_entropy(
                out.logits.flatten(0, 1), labels.flatten(), reduction="sum") / targets
            config = model.config
            even = module.load_balancing_loss_func(
                out.router_logits, config.num_experts, config.num_experts_per_tok, mask)
            part_loss = part_loss + 0.7 / parts * even
            part_loss.backward()
            loss += part_loss.item()
    result, ours = gradients(folder, lines, tmp_path / "gradients", "full", parts, "router", 0.7)
    assert abs(result["loss"] - loss) < 1e-5 * loss
    assert 0.7 * even.item() > 0.5
    compare_gradients(ours, peers.gguf_gradients(model, model.config))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_steps(hone, files, tmp_path, name, method):
    """20 steps of AdamW from the folder."""
    shape, folder, _ = files[name]
    lines = data(tmp_path, LINES)
    plain = shape.transformers_model()
    rate, begin, model = 3e-3, ["--method", "full"], plain
    if method == "lora":
        adapter = make_adapter(shape, plain, tmp_path / "adapter")
        rate, begin = 1e-2, ["--adapter", adapter]
        model = with_adapter(shape, plain.double(), adapter)
    ours = peers.finetune(hone, folder, lines, tmp_path / "run", *begin, "--batch", 4, "--steps",
                          STEPS, "--lr", rate, "--schedule", "linear", "--warmup", 2,
                          "--weight-decay", 0.05)
    steps = peers.steps_of(peers.examples_of(hone, folder, lines), 4, STEPS)
    theirs = peers.train(model.double(), steps, rate, "linear", 2, 0.05)
    assert len(ours) == STEPS
    worst = max(abs(a - b) / (1e-3 * b + 1e-3) for a, b in zip(ours, theirs, strict=True))
    assert worst <= 1, f"{worst:.2f} of what is allowed"
    assert theirs[-1] < 0.95 * theirs[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written(hone, files, tmp_path, name):
    """The adapter's files and the merged model's, everywhere."""
    shape, folder, converted = files[name]
    model = converted if shape.in_llama_cpp else folder
    run, probes = tmp_path / "run", data(tmp_path, PROBES)
    # PEFT stacks experts, and drops what else is called as they are.
    targets = ["--targets", "q,k,v,o,blk.*.ffn_*.?.weight"] if "mixed" in name else []
    peers.finetune(hone, model, data(tmp_path, LINES), run, "--rank", 4, "--alpha", 8, "--steps", 8,
                   "--lr", 2e-2, "--batch", 8, *targets)
    examples = peers.examples_of(hone, model, probes)
    base = peers.hone_logprobs(hone, model, probes)
    ours = peers.hone_logprobs(hone, model, probes, "--adapter", run)
    assert np.abs(flat(ours) - flat(base)).mean() > 0.02  # the adapter does something
    again = peers.hone_logprobs(hone, model, probes, "--adapter", run / "adapter.gguf")
    assert peers.largest_difference(ours, again) == 0
    adapted = peers.with_adapter(shape.transformers_model().double(), run)
    assert peers.largest_difference(ours, peers.torch_logprobs(adapted, examples)) <= 1e-4

    merged, written = tmp_path / "merged.gguf", tmp_path / "merged-hf"
    peers.run_hone(hone, "merge", "--model", model, "--adapter", run, "--out", merged, "--type",
                   "f32")
    peers.run_hone(hone, "merge", "--model", model, "--adapter", run, "--out", written, "--to",
                   "hf", "--type", "f32")
    for path in (merged, written):
        assert peers.largest_difference(ours, peers.hone_logprobs(hone, path, probes)) <= 1e-4
    kind = {"attn_implementation": "eager"} if shape.kind == "gemma2" else {}
    if decoders.KINDS[shape.kind].experts:
        kind = {"experts_implementation": "eager"}
    loaded, report = AutoModelForCausalLM.from_pretrained(
        written, dtype=torch.float64, output_loading_info=True, **kind)
    assert not any(report.values()), report
    assert peers.largest_difference(ours, peers.torch_logprobs(loaded, examples)) <= 1e-4
    if shape.in_llama_cpp:
        limit = llama_limit(name)
        theirs = peers.llama_logprobs(model, examples, run / "adapter.gguf")
        assert peers.largest_difference(ours, theirs) <= limit
        assert peers.largest_difference(ours, peers.llama_logprobs(merged, examples)) <= limit


# ---- what is refused ---------------------------------------------------------------------------


def refused(hone, path, *says):
    done = subprocess.run([str(hone), "eval", "--model", str(path), "--data", __file__],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    for part in says:
        assert part in done.stderr, done.stderr


def copy_of(folder, to, change=None):
    shutil.copytree(folder, to)
    if change:
        config = json.loads((to / "config.json").read_text())
        change(config)
        (to / "config.json").write_text(json.dumps(config))
    return to


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("name, change, says", [
    ("qwen2", lambda c: c.update(hidden_act="relu"), ['"hidden_act" is "relu"', "silu"]),
    ("gemma2", lambda c: c.update(hidden_activation="gelu"), ['"hidden_activation" is "gelu"']),
    ("qwen3", lambda c: c.update(head_dim=12), ["attn_q.weight", "(56, 40)", "(48, 40)"]),
    ("qwen3", lambda c: c.update(num_key_value_heads=4), ["attn_k.weight", "(28, 40)", "(56, 40)"]),
    ("qwen3", lambda c: c.update(attention_bias=True), ["q_proj.bias", "missing"]),
    ("qwen3-tied-biases", lambda c: c.update(attention_bias=False), ["q_proj.bias", "there"]),
    ("smollm3-rope-windows", lambda c: c.update(mlp_bias=False), ["up_proj.bias", "there"]),
    ("qwen3", lambda c: c.update(num_hidden_layers=3), ["blk.2.attn_norm.weight", "missing"]),
    ("qwen3", lambda c: c.update(num_hidden_layers=1), ["blk.1.", "is not part of"]),
    ("qwen3", lambda c: c.update(model_type="qwen2"), ["self_attn.k_norm", "is not part of"]),
    ("qwen2", lambda c: c.update(model_type="qwen3"), ["q_proj.bias", "there"]),
    ("qwen3-moe", lambda c: c.update(num_experts_per_tok=7), ['"num_experts_per_tok" is 7']),
    ("qwen3-moe", lambda c: c.update(num_experts=2000), ["is 2000", "at most 1024"]),
    ("qwen3-moe", lambda c: c.update(num_experts=7), ["ffn_gate_inp", "(6, 40)", "(7, 40)"]),
    ("qwen3-moe", lambda c: c.update(moe_intermediate_size=20),
     ["ffn_gate.0.weight", "(21, 40)", "(20, 40)"]),
    ("qwen3-moe", lambda c: c.update(mlp_only_layers=[0, 1]), ["no layer is left"]),
    ("qwen3-moe", lambda c: c.update(mlp_only_layers=[1]), ["blk.1.ffn_gate.weight", "missing"]),
    ("qwen3-moe", lambda c: c.update(mlp_only_layers="x"), ["mlp_only_layers", "array"]),
    ("qwen3-moe", lambda c: c.update(hidden_act="gelu"), ['"hidden_act" is "gelu"']),
    ("olmoe", lambda c: c.update(clip_qkv=8.0), ['"clip_qkv" is 8.0']),
    ("gemma3", lambda c: c.update(layer_types=["full_attention"]), ["layer_types", "7 texts"]),
    ("gemma3", lambda c: c["layer_types"].__setitem__(3, "chunked_attention"),
     ["layer_types[3]", "chunked_attention"]),
    ("gemma3", lambda c: c.update(use_bidirectional_attention=True),
     ["use_bidirectional_attention"]),
    ("gemma3", lambda c: c["rope_parameters"]["sliding_attention"].update(
        rope_type="linear", factor=2.0), ["linear", "sliding layers"]),
    ("gemma2", lambda c: c.update(query_pre_attn_scalar=-1), ["query_pre_attn_scalar"]),
    ("gemma2", lambda c: c.update(final_logit_softcapping=-3), ["final_logit_softcapping"]),
    ("smollm3", lambda c: c.update(no_rope_layers=[1, 0]), ["no_rope_layers", "5 numbers"]),
    ("granite", lambda c: c.update(residual_multiplier="x"), ["residual_multiplier"]),
    ("llama-yarn", lambda c: c.update(rope_parameters={"rope_type": "ntk", "factor": 2.0}),
     ['rope_type "ntk"', "supported: default, linear"]),
    ("llama-yarn", lambda c: c.update(rope_parameters={"rope_type": "yarn", "factor": 2.0}),
     ["original_max_position_embeddings", "missing"]),
    ("llama-yarn", lambda c: c.update(rope_parameters={**YARN, "truncate": False}), ["truncate"]),
    ("llama-yarn", lambda c: c.update(rope_parameters={**YARN, "mscale": 1.0}), ["mscale"]),
    ("phi3-long", lambda c: c["rope_parameters"].update(short_factor=[1.0]),
     ["short_factor", "4 numbers"]),
    ("phi3-long", lambda c: c["rope_parameters"]["long_factor"].__setitem__(1, 0),
     ["long_factor", "above 0"]),
    ("mistral", lambda c: c.update(sliding_window=0), ["sliding_window"]),
    ("llama3", lambda c: c.update(partial_rotary_factor=0.5), ["partial_rotary_factor"]),
])
def test_a_config_is_refused(hone, files, tmp_path, name, change, says):
    refused(hone, copy_of(files[name][1], tmp_path / "hf", change), str(tmp_path / "hf"), *says)


@pytest.mark.parametrize("name, change, says", [
    ("qwen3", lambda t: t.pop("model.layers.1.self_attn.q_norm.weight"),
     ["blk.1.attn_q_norm.weight", "missing"]),
    ("olmo2", lambda t: t.pop("model.layers.0.post_feedforward_layernorm.weight"),
     ["blk.0.post_ffw_norm.weight", "missing"]),
    ("qwen3-moe", lambda t: t.pop("model.layers.1.mlp.experts.3.up_proj.weight"),
     ["blk.1.ffn_up.3.weight", "missing"]),
    ("olmoe", lambda t: t.pop("model.layers.0.mlp.gate.weight"),
     ["blk.0.ffn_gate_inp.weight", "missing"]),
    ("olmoe", lambda t: t.update({"model.layers.0.mlp.experts.7.up_proj.weight":
                                  np.zeros((23, 36), "f")}), ["blk.0.ffn_up.7", "is not part"]),
    ("qwen2", lambda t: t.pop("model.layers.1.self_attn.v_proj.bias"),
     ["blk.1.attn_v.bias", "missing"]),
    ("phi3", lambda t: t.update({"model.layers.0.self_attn.q_proj.weight": np.zeros((4, 4), "f")}),
     ["self_attn.q_proj.weight", "is not part of a phi3 model"]),
    ("phi3", lambda t: t.update({"model.layers.0.mlp.gate_up_proj.weight":
                                 np.zeros((87, 32), "f")}), ["ffn_up", "(87, 32)", "(88, 32)"]),
    ("gemma3", lambda t: t.update({"model.layers.0.self_attn.q_norm.weight":
                                   np.zeros(48, "f")}), ["attn_q_norm", "(48)", "(12)"]),
])
def test_tensors_are_refused(hone, files, tmp_path, name, change, says):
    folder = copy_of(files[name][1], tmp_path / "hf")
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    refused(hone, folder, str(folder), *says)


@pytest.mark.parametrize("name, key, value, says", [
    ("qwen2", "qwen2.rope.scaling.type", "ntk", ["rope.scaling.type", "ntk", "yarn"]),
    ("gemma3", "gemma3.attention.sliding_window", -1, ["sliding_window", "-1"]),
    ("granite", "granite.residual_scale", -0.5, ["residual_scale", "-0.5"]),
    ("gemma2", "gemma2.final_logit_softcapping", float("nan"), ["final_logit_softcapping"]),
    ("gemma2", "gemma2.attention.sliding_window_pattern", [True], ["1 entries for 3 layers"]),
    ("llama-yarn", "llama.rope.scaling.yarn_ext_factor", 0.5, ["yarn_ext_factor", "0.5"]),
    ("qwen3-moe", "qwen3moe.expert_used_count", 9, ["expert_used_count is 9", "1…6"]),
    ("qwen3-moe", "qwen3moe.expert_count", 0, ["expert_count is 0", "1…1024"]),
    ("olmoe", "olmoe.expert_count", 8, ["ffn_gate_inp", "(7, 36)", "(8, 36)"]),
    ("qwen3", "qwen3.expert_count", 4, ["4 experts", "not supported in qwen3"]),
    ("qwen3", "general.architecture", "qwen4", ['"qwen4"', "supported: llama, granite"]),
])
def test_gguf_keys_are_refused(hone, files, tmp_path, name, key, value, says):
    path = tmp_path / "changed.gguf"
    rewrite(files[name][2], path, key, value)
    refused(hone, path, str(path), *says)


def rewrite(source, out, key, value):
    """The GGUF file with one key set."""
    reader = gguf.GGUFReader(source)
    kinds = {str: gguf.GGUFValueType.STRING, int: gguf.GGUFValueType.INT32,
             float: gguf.GGUFValueType.FLOAT32, list: gguf.GGUFValueType.ARRAY}
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(out, value if key == "general.architecture" else architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (key, "general.architecture"):
            continue
        items = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=items)
    if key != "general.architecture":
        writer.add_key_value(key, value, kinds[type(value)],
                             sub_type=gguf.GGUFValueType.BOOL if kinds[type(value)] ==
                             gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- K types -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3", "qwen3_moe", "olmoe", "gemma3_text", "phi3", "olmo2",
                                  "granite"])
def test_k_types(hone, tmp_path, name):
    """Rows of 256: merged files of K types, in llama.cpp."""
    experts = {"num_experts": 3, "num_experts_per_tok": 2}
    sizes = {"qwen3": {"head_dim": 64}, "olmoe": experts,
             "qwen3_moe": {"head_dim": 64, "moe_intermediate_size": 256, "norm_topk_prob": True,
                           **experts}, "phi3": {}, "olmo2": {}, "granite": {},
             "gemma3_text": {**decoders.GEMMA, "head_dim": 64, "query_pre_attn_scalar": 64}}
    shape = decoders.Decoder(name, 1, 256, 4, 4, 512, 9, sizes[name])
    folder = shape.save(tmp_path / "hf")
    run, probes = tmp_path / "run", data(tmp_path, PROBES)
    peers.finetune(hone, folder, data(tmp_path, LINES), run, "--steps", 2, "--batch", 4)
    examples = peers.examples_of(hone, folder, probes)
    for kind in ("q4_k_m", "q6_k"):
        merged = tmp_path / f"{kind}.gguf"
        peers.run_hone(hone, "merge", "--model", folder, "--adapter", run, "--out", merged, "--type",
                       kind)
        kinds = {t.tensor_type.name for t in gguf.GGUFReader(merged).tensors
                 if len(t.shape) > 1 and "ffn_gate_inp" not in t.name}
        assert kinds <= {"Q4_K", "Q5_K", "Q6_K"}, kinds
        ours, theirs = peers.hone_logprobs(hone, merged, probes), peers.llama_logprobs(
            merged, examples)
        # llama.cpp rounds the activations to 8 bits.
        assert np.abs(flat(ours) - flat(theirs)).mean() <= 5e-2
