# SPDX-License-Identifier: Apache-2.0
"""One cache: what hone pull fetched is what transformers finds, and the other way round. The hub is
on loopback."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")
transformers = pytest.importorskip("transformers")
pytest.importorskip("torch")
import models
from test_hf_folder import save

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "cli"))
from hub_server import COMMIT, Hub  # noqa: E402

NAME = "owner/name"


@pytest.fixture
def hub(tmp_path):
    folder = save(models.SHAPES["llama"] if "llama" in models.SHAPES
                  else next(iter(models.SHAPES.values())), tmp_path / "made", "smollm",
                  max_shard_size="100KB")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub = Hub(files, {name for name in files if name.endswith(".safetensors")})
    yield hub
    hub.close()


def run(hone, cache, *arguments):
    environment = dict(os.environ, HF_HUB_CACHE=str(cache))
    environment.pop("HF_TOKEN", None)
    done = subprocess.run([hone, *map(str, arguments)], env=environment, capture_output=True,
                          text=True)
    if "built without libcurl" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pull(hone, cache, hub):
    return json.loads(run(hone, cache, "pull", NAME, "--endpoint", hub.url,
                          "--json").splitlines()[-1])


def test_transformers_finds_what_hone_pulled(hone, hub, tmp_path):
    done = pull(hone, tmp_path, hub)
    assert done["commit"] == COMMIT and done["received"] == done["bytes"]
    found = huggingface_hub.snapshot_download(NAME, cache_dir=tmp_path, local_files_only=True)
    assert os.path.samefile(found, done["path"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(NAME, cache_dir=tmp_path,
                                                           local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(NAME, cache_dir=tmp_path,
                                                              local_files_only=True)
    ids = tokenizer("the same again", return_tensors="pt").input_ids
    assert model(ids).logits.isfinite().all()
    mine = run(hone, tmp_path, "generate", "--model", NAME, "--prompt", "the same again", "--raw",
               "--max-tokens", "4", "--json")
    theirs = model.generate(ids, max_new_tokens=4, do_sample=False,
                            attention_mask=ids.new_ones(ids.shape))[0, ids.shape[1]:]
    assert json.loads(mine)["tokens"][:4] == theirs.tolist()[:len(json.loads(mine)["tokens"])]


def test_hone_finds_what_the_other_fetched_and_fetches_nothing_twice(hone, hub, tmp_path):
    found = huggingface_hub.snapshot_download(NAME, cache_dir=tmp_path, endpoint=hub.url,
                                              token=False)
    assert "llama" in run(hone, tmp_path, "inspect", NAME, "--json")
    done = pull(hone, tmp_path, hub)
    assert done["received"] == 0
    assert os.path.samefile(found, done["path"])
