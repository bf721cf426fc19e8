# SPDX-License-Identifier: Apache-2.0
"""Models in several GGUF files, as gguf's writer splits them: one model wherever a model is wanted."""
import shutil
import subprocess

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")
import models
import peers
from test_same_files import PROBES
from test_same_training import LINES


def split(path, tensors, small_first=False):
    """The first of the files that hold at most so many tensors each."""
    reader = gguf.GGUFReader(path)
    out = path.parent / f"split-{tensors}"
    out.mkdir()
    writer = gguf.GGUFWriter(out / "model.gguf", reader.fields["general.architecture"].contents(),
                             split_max_tensors=tensors, small_first_shard=small_first)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0],
                                 field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    first, *others = sorted(out.iterdir())
    assert len(others) >= 1
    return first


@pytest.mark.parametrize("name,tensors,small_first", [("plain", 4, False), ("gpt2", 7, True),
                                                      ("half", 1, False)])
def test_same_as_one_file(hone, tmp_path, name, tensors, small_first):
    path = models.SHAPES[name].write_gguf(tmp_path / "tiny.gguf")
    first = split(path, tensors, small_first)
    probes = peers.write_texts(tmp_path / "probes.jsonl", PROBES)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    whole, parts = (peers.hone_logprobs(hone, model, probes) for model in (path, first))
    assert peers.largest_difference(whole, parts) == 0
    for model, run in ((path, "whole"), (first, "parts")):
        peers.finetune(hone, model, data, tmp_path / run, "--steps", 3, "--memory", "200M")
    adapters = [(tmp_path / run / "adapter_model.safetensors").read_bytes()
                for run in ("whole", "parts")]
    assert adapters[0] == adapters[1]
    joined = tmp_path / "joined.gguf"
    peers.run_hone(hone, "convert", first, "--to", "gguf", "--out", joined)
    again = gguf.GGUFReader(joined)
    assert not any(key.startswith("split.") for key in again.fields)
    wanted = gguf.GGUFReader(path)
    for key, field in wanted.fields.items():
        if not key.startswith("GGUF."):
            assert again.fields[key].contents() == field.contents(), key
    tensors = {t.name: t for t in again.tensors}
    assert set(tensors) == {t.name for t in wanted.tensors}
    for tensor in wanted.tensors:
        assert tensors[tensor.name].data.tobytes() == tensor.data.tobytes(), tensor.name


def refused(hone, path, *says, command=("inspect",)):
    done = subprocess.run([str(part) for part in (hone, *command, path)], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    for part in says:
        assert part in done.stderr, done.stderr


def test_what_does_not_belong_together(hone, tmp_path):
    path = models.SHAPES["plain"].write_gguf(tmp_path / "tiny.gguf")
    first = split(path, 8)
    count = len(list(first.parent.iterdir()))
    name = f"-of-{count:05d}.gguf"
    second = first.parent / f"model-00002{name}"
    refused(hone, second, str(second), f"part 2 of {count}", f"-00001{name}")
    refused(hone, second, str(second), "would be read",
            command=("convert", first, "--to", "gguf", "--out"))
    renamed = tmp_path / "renamed.gguf"
    shutil.copy(first, renamed)
    refused(hone, renamed, str(renamed), f"first of {count} files", f"-00001{name}")
    kept = second.read_bytes()
    second.write_bytes(first.read_bytes())
    refused(hone, first, str(second), "belongs to another model")
    second.write_bytes(kept[:-40])
    refused(hone, first, str(second), "past the end")
    second.write_bytes(b"GG")
    refused(hone, first, str(second), "not a GGUF file")
    second.unlink()
    refused(hone, first, str(second), "is missing", f"in {count} files")
    shutil.copy(path, second)  # whole, and no part of anything
    refused(hone, first, str(second), "belongs to another model")
