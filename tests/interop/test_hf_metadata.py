# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file says of a model besides its numbers survives the way through a folder and back:
every key, its type and its value. What a person changes in the folder is obeyed."""
import json
import shutil

import pytest

gguf = pytest.importorskip("gguf")
pytest.importorskip("torch")
pytest.importorskip("llama_cpp")
import models
from gguf import GGUFValueType as Type
from test_hf_written import convert, copy_gguf, load, refused

MORE = {
    "general.license": ("apache-2.0", Type.STRING),
    "general.languages": (["en", "de", "中文"], Type.ARRAY, Type.STRING),
    "general.tags": (["a \"quoted\" tag", "", "é\n"], Type.ARRAY, Type.STRING),
    "general.quantized_by": ("someone", Type.STRING),
    "tokenizer.ggml.add_space_prefix": (False, Type.BOOL),
    "maker.u8": (255, Type.UINT8), "maker.i8": (-128, Type.INT8),
    "maker.u16": (65535, Type.UINT16), "maker.i16": (-32768, Type.INT16),
    "maker.u32": (2**32 - 1, Type.UINT32), "maker.i32": (-2**31, Type.INT32),
    "maker.u64": (2**63 - 1, Type.UINT64), "maker.i64": (-2**63, Type.INT64),
    "maker.f32": (0.10000000149011612, Type.FLOAT32), "maker.f64": (0.1, Type.FLOAT64),
    "maker.counts": ([1, -2, 3], Type.ARRAY, Type.INT32),
    "maker.parts": ([0.5, 1e-30], Type.ARRAY, Type.FLOAT32),
    "maker.flags": ([True, False], Type.ARRAY, Type.BOOL),
}
OF_THE_FILE = ("general.file_type", "general.quantization_version", "general.alignment")


def with_more(shape, path):
    """The tiny model with keys of every type."""
    source = path.with_suffix(".source")
    shape.write_gguf(source)
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    copy_gguf(writer, reader, MORE)
    for key, value in MORE.items():
        writer.add_key_value(key, *value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def keys_of(path):
    return {key: (field.types, field.contents())
            for key, field in gguf.GGUFReader(path).fields.items()
            if not key.startswith("GGUF.") and key not in OF_THE_FILE}


@pytest.mark.parametrize("name", ["plain", "gpt2-odd"])
def test_there_and_back(hone, tmp_path, capfd, name):
    path = with_more(models.SHAPES[name], tmp_path / "tiny.gguf")
    folder = convert(hone, path, tmp_path / "hf")
    load(folder, capfd)  # transformers does not mind
    wanted, again = keys_of(path), keys_of(convert(hone, folder, tmp_path / "b.gguf", to="gguf"))
    assert {key: again.get(key) for key in wanted} == wanted
    # A folder's copy has it too.
    copy = convert(hone, folder, tmp_path / "copy")
    assert (copy / "gguf_metadata.json").read_bytes() == (
        folder / "gguf_metadata.json").read_bytes()


def test_what_a_person_changes(hone, tmp_path):
    path = with_more(models.SHAPES["plain"], tmp_path / "tiny.gguf")
    folder = convert(hone, path, tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    config["rms_norm_eps"] = 0.25
    (folder / "config.json").write_text(json.dumps(config))
    notes = json.loads((folder / "gguf_metadata.json").read_text())
    notes["general.name"]["value"] = "another name"
    notes["llama.attention.layer_norm_rms_epsilon"] = {"type": "f32", "value": 0.5}
    notes["llama.vocab_size"] = {"type": "u32", "value": 7}  # of before a token was added
    del notes["general.license"]
    (folder / "gguf_metadata.json").write_text(json.dumps(notes))
    keys = keys_of(convert(hone, folder, tmp_path / "b.gguf", to="gguf"))
    assert keys["llama.attention.layer_norm_rms_epsilon"][1] == 0.25
    assert keys["general.name"][1] == "another name" and "general.license" not in keys
    assert keys.get("llama.vocab_size", (None, None))[1] != 7


@pytest.mark.parametrize("entry, said", [
    ({"type": "u8", "value": 256}, "no whole number of its type"),
    ({"type": "i8", "value": 1.5}, "no whole number of its type"),
    ({"type": "bool", "value": 1}, "neither true nor false"),
    ({"type": "string", "value": 3}, "no text"),
    ({"type": "f32", "value": "3"}, "no number"),
    ({"type": "[string]", "value": "en"}, "no array"),
    ({"type": "[[string]]", "value": []}, "no array"),
    ({"type": "array", "value": []}, "a type that GGUF lacks"),
    ({"value": 3}, 'no "type" and "value"'),
    ([], 'no "type" and "value"'),
])
def test_bad_entries(hone, tmp_path, entry, said):
    path = models.SHAPES["plain"].write_gguf(tmp_path / "tiny.gguf")
    folder = convert(hone, path, tmp_path / "hf")
    (folder / "gguf_metadata.json").write_text(json.dumps({"general.license": entry}))
    line = refused(hone, "inspect", folder)
    assert "gguf_metadata.json" in line and '"general.license"' in line and said in line, line
    shutil.rmtree(folder)
