# SPDX-License-Identifier: Apache-2.0
"""De-quantise a GGUF file into a transformers folder (f32), so that the peers run on exactly the
weights that Hone reads. Prints the folder; made once, in the cache, and kept while the file and
this script stay as they are.

    $(scripts/interop-env) tests/interop/gguf_to_hf.py MODEL.gguf [FOLDER]
"""
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile


def cache_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("HONE_CACHE") or os.path.join(cache, "hone"))


def load_model(path):
    """transformers' own reading of the file."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM

    path = pathlib.Path(path).resolve()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="sdpa")
    # It still counts as quantised, and transformers would refuse to save it.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    model.config.use_cache = False
    return model.eval()


def save_tokenizer(path, folder):
    """transformers' reading forgets tokenizer.ggml.pre: "smollm" splits digits off before GPT-2's
    rule, which shows wherever white space stands before a digit."""
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    path = pathlib.Path(path).resolve()
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    rule = GGUFReader(path).fields["tokenizer.ggml.pre"].contents()
    if rule != "smollm":
        raise SystemExit(f"{path}: tokenizer.ggml.pre is {rule}; only smollm's is put back")
    file = pathlib.Path(folder) / "tokenizer.json"
    content = json.loads(file.read_text("utf8"))
    digits = {"type": "Digits", "individual_digits": True}
    pre = content["pre_tokenizer"]
    parts = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    if digits not in parts:
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, *parts]}
        file.write_text(json.dumps(content, ensure_ascii=False), "utf8")


def convert(path, folder):
    load_model(path).save_pretrained(folder)
    save_tokenizer(path, folder)


def converted(path):
    """The folder of this file in the cache, made unless it is there."""
    digest = hashlib.sha256()
    for source in (path, __file__):
        with open(source, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"hf-{digest.hexdigest()[:12]}"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once make it once
        if not folder.exists():
            work = tempfile.mkdtemp(prefix="hf-", dir=cache)
            try:
                convert(path, work)
                os.chmod(work, 0o755)
                os.rename(work, folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return folder


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    if len(sys.argv) == 3:
        convert(sys.argv[1], sys.argv[2])
        print(sys.argv[2])
    else:
        print(converted(sys.argv[1]))


if __name__ == "__main__":
    main()
