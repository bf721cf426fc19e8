# SPDX-License-Identifier: Apache-2.0
"""hone inspect: what is in each thing that Hone reads or writes, and what can be done with it."""
import json
import pathlib
import shutil

from support import CHAT, TINY, Case, main

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "io"
USAGE = 2


class Inspect(Case):
    def look(self, path):
        """The JSON, after the words were seen to hold the same `can`."""
        words = self.hone("inspect", path)
        self.assertEqual(words.returncode, 0, words.stderr)
        [event], _ = self.events("inspect", path)
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
        mlx = self.folder / "mlx"
        mlx.mkdir()
        shutil.copy(FIXTURES / "peft-plain" / "adapter_model.safetensors",
                    mlx / "adapters.safetensors")
        (mlx / "adapter_config.json").write_text('{"fine_tune_type": "lora", "num_layers": 2}')
        event = self.look(mlx)
        self.assertIn("MLX-LM", event["can"])
        self.assertEqual(event["settings"]["num_layers"], 2)
        self.assertIn("adapter", self.look(FIXTURES / "adapter.gguf")["can"])
        (mlx / "adapter_config.json").write_text("not JSON")
        self.assertEqual(self.look(mlx)["settings"], {})

    def test_runs_and_checkpoints(self):
        run = self.folder / "run"
        done = self.hone("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT),
                         "--out", run, "--steps", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        event = self.look(run)
        self.assertEqual(event["format"], "run")
        self.assertIn("--adapter", event["can"])
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
