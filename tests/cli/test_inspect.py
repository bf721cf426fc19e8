# SPDX-License-Identifier: Apache-2.0
"""hone inspect: what is in each thing that Hone reads or writes, and what can be done with it."""
import json
import math
import pathlib
import shutil

from support import CHAT, TINY, Case, main

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "io"
USAGE = 2


class Inspect(Case):
    def look(self, path, status=0):
        """The JSON, after the words were seen to hold the same `can`."""
        words = self.hone("inspect", path)
        self.assertEqual(words.returncode, status, words.stderr)
        done = self.hone("inspect", path, "--json")
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), int(status != 0))
        event = json.loads(done.stdout)
        self.assertIn(event["can"], words.stdout)
        self.assertEqual(event["path"], str(path))
        return event

    def test_models(self):
        folder = self.folder / "hf"
        self.assertEqual(self.hone("convert", TINY, "--to", "hf", "--out", folder).returncode, 0)
        seen = []
        for path in (TINY, folder):
            event = self.look(path)
            model = event["model"]
            self.assertEqual((model["architecture"], model["layers"], model["heads"],
                              model["kv_heads"], model["vocabulary"], model["template"]),
                             ("llama", 2, 3, 1, 279, True))
            self.assertIn("finetune", event["can"])
            self.assertEqual(sum(tensor["bytes"] for tensor in event["tensors"]) // 4,
                             model["parameters"])
            seen.append({tensor["name"]: tensor["shape"] for tensor in event["tensors"]})
        self.assertEqual(*seen)

    def test_adapters(self):
        event = self.look(FIXTURES / "peft-rslora")
        self.assertIn("PEFT", event["can"])
        self.assertEqual((event["settings"]["r"], event["settings"]["use_rslora"]), (4, True))
        self.assertIn("adapter", self.look(FIXTURES / "adapter.gguf")["can"])

    def test_kinds_of_adapters(self):
        """Kind, ranks, scales, targets and what is trained whole, of each kind that is read."""
        linear = dict.fromkeys(["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                "ffn_down"], 2)
        norms = [f"blk.{i}.{name}_norm.weight" for i in (0, 1) for name in ("attn", "ffn")]
        for name, kind, rank, scale, layers, targets, whole in (
                ("peft-plain", "lora", [4, 4], [2, 2], [0, 1], linear, []),
                ("peft-patterns", "lora", [2, 4], [1.25, 4], [0, 1], linear, []),
                ("peft-dora", "dora", [1, 1], [1, 1], [0, 1], {"attn_v": 2}, []),
                ("peft-embedding", "lora", [1, 1], [1, 1], [-1, -1], {"token_embd": 1}, []),
                ("peft-head", "lora", [2, 2], [1, 1], [0, 1], {"attn_q": 2, "output": 1}, []),
                ("peft-bias", "lora", [1, 1], [1, 1], [0, 1], {"attn_v": 2}, []),
                ("peft-modules", "lora", [1, 1], [1, 1], [0, 1], {"attn_v": 2},
                 [*norms, "output_norm.weight"]),
                ("adapter.gguf", "lora", [4, 4], [2, 2], [0, 1], linear, [])):
            with self.subTest(name=name):
                found = self.look(FIXTURES / name)["adapter"]
                self.assertGreater(found.pop("parameters"), 40)
                self.assertEqual(found, {"kind": kind, "rank": rank, "scale": scale, "layers": layers,
                                         "targets": targets, "whole": whole})
        words = self.hone("inspect", FIXTURES / "peft-modules").stdout
        self.assertIn("\n  LoRA of rank 1, scale 1, 128 parameters, layers 0 to 1\n  on 2 attn_v\n"
                      "  trained whole: blk.0.attn_norm.weight, ", words)

    def test_adapters_that_cannot_be_used(self):
        """Why not, and what is in them all the same."""
        event = self.look(FIXTURES / "peft-lora-bias")
        self.assertIn("not usable: ", event["can"])
        self.assertIn('"lora_bias"', event["can"])
        self.assertNotIn("adapter", event)
        self.assertTrue(event["tensors"] and event["settings"])

    def mlx(self, tensors, config):
        """An MLX-LM folder of zeros: names and shapes."""
        folder, header, at = self.folder / "mlx", {}, 0
        folder.mkdir(exist_ok=True)
        for name, shape in tensors.items():
            size = 4 * math.prod(shape)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        (folder / "adapters.safetensors").write_bytes(len(text).to_bytes(8, "little") + text
                                                      + bytes(at))
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    def test_mlx(self):
        module = "model.layers.5.self_attn.q_proj"
        pair = {f"{module}.lora_a": [6, 2], f"{module}.lora_b": [2, 8]}
        config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"scale": 20}}
        event = self.look(self.mlx(pair, config))
        self.assertIn("MLX-LM", event["can"])
        self.assertEqual(event["settings"]["num_layers"], 2)
        self.assertEqual(event["adapter"], {"kind": "lora", "parameters": 28, "rank": [2, 2],
                                            "scale": [20, 20], "layers": [5, 5],
                                            "targets": {"attn_q": 1}, "whole": []})
        event = self.look(self.mlx(pair, {**config, "fine_tune_type": "full"}))
        self.assertIn("not usable: ", event["can"])
        (self.folder / "mlx" / "adapter_config.json").write_text("not JSON")
        event = self.look(self.folder / "mlx", USAGE)  # damaged, but what is there is shown
        self.assertIn("not usable: ", event["can"])
        self.assertEqual(event["settings"], {})

    def test_a_file_of_a_folder(self):
        """What a person finds first in a folder stands for it."""
        folder = self.folder / "hf"
        self.assertEqual(self.hone("convert", TINY, "--to", "hf", "--out", folder).returncode, 0)
        done = self.hone("inspect", folder / "config.json", "--json")
        self.assertIn("finetune", json.loads(done.stdout)["can"])
        done = self.hone("inspect", FIXTURES / "peft-plain" / "adapter_config.json", "--json")
        self.assertIn("PEFT", json.loads(done.stdout)["can"])
        tensors = self.look(folder / "model.safetensors")["tensors"]  # of that file, as it has them
        self.assertIn("model.embed_tokens.weight", [tensor["name"] for tensor in tensors])
        data = self.write("d.jsonl", CHAT)
        run = self.folder / "run"
        done = self.hone("finetune", "--model", folder / "model.safetensors", "--data", data, "--out",
                         run, "--steps", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        losses = []
        for adapter in (run, run / "adapter_model.safetensors", run / "adapter_config.json",
                        run / "adapter.gguf"):
            [event], _ = self.events("eval", "--model", TINY, "--adapter", adapter, "--data", data)
            losses.append(event["loss"])
        self.assertEqual(len(set(losses)), 1, losses)

    def test_runs_and_checkpoints(self):
        run = self.folder / "run"
        done = self.hone("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT),
                         "--out", run, "--steps", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        event = self.look(run)
        self.assertEqual(event["format"], "run")
        self.assertIn("--adapter", event["can"])
        self.assertEqual((event["adapter"]["kind"], event["adapter"]["rank"]), ("lora", [16, 16]))
        self.assertIn("--resume", event["can"])
        self.assertLessEqual({"config.yaml", "metrics.jsonl", "adapter.gguf", "checkpoint"},
                             set(event["files"]))
        self.assertEqual(event["files"]["config.yaml"], (run / "config.yaml").stat().st_size)
        json.loads(event["last_event"])
        self.assertEqual(self.look(run / "checkpoint")["format"], "checkpoint")
        self.assertIn("PEFT", self.look(self.only(run, "adapter_"))["can"])

    def only(self, folder, begins):
        some = self.folder / "some"
        some.mkdir()
        for path in folder.iterdir():
            if path.name.startswith(begins):
                shutil.copy(path, some)
        return some

    def test_tokenizers(self):
        folder = self.folder / "hf"
        self.hone("convert", TINY, "--to", "hf", "--out", folder)
        for path in (folder / "tokenizer.json", self.only(folder, "tokenizer")):
            event = self.look(path)
            self.assertEqual((event["format"], event["tokens"]), ("tokenizer.json", 279))
        self.assertEqual(event["eos"]["text"], "<|im_end|>")  # tokenizer_config.json's

    def test_nothing_known(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.refused(USAGE, [empty, "config.json", "tokenizer.json"], "inspect", empty)
        self.refused(USAGE, ["x.json"], "inspect", self.write("x.json", "{}"))


if __name__ == "__main__":
    main()
