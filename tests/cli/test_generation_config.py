# SPDX-License-Identifier: Apache-2.0
"""generation_config.json: which tokens end an answer and how the next one is drawn, read and written back."""
import json

from support import CHAT, TINY, Case, main

USAGE = 2


class GenerationConfig(Case):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "hf"
        done = self.hone("convert", TINY, "--to", "hf", "--out", self.model)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.settings = self.model / "generation_config.json"

    def set(self, **settings):
        self.settings.write_text(json.dumps(settings))

    def answer(self, *options):
        done = self.hone("generate", "--model", self.model, "--prompt", "the", "--raw",
                         "--max-tokens", "12", "--json", *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout), done.stderr

    def test_sampling_is_the_models_unless_it_is_given(self):
        greedy, said = self.answer()
        self.assertEqual(said, "")
        self.set(do_sample=True, temperature=50, top_p=0.95)
        drawn, said = self.answer()
        self.assertNotEqual(drawn["tokens"], greedy["tokens"])
        self.assertIn("--temperature 50 --top-p 0.95 --top-k 50", said)
        again, said = self.answer("--temperature", "0")
        self.assertEqual((again["tokens"], said), (greedy["tokens"], ""))
        self.set(do_sample=False, temperature=50)
        self.assertEqual(self.answer()[0]["tokens"], greedy["tokens"])

    def test_every_end_token_ends(self):
        greedy, _ = self.answer()
        third = greedy["tokens"][2]
        first = greedy["tokens"].index(third)
        self.set(eos_token_id=[2, third, 10**9])  # the last is of another vocabulary
        ended, _ = self.answer()
        self.assertTrue(ended["ended"])
        self.assertEqual(ended["tokens"][:first], greedy["tokens"][:first])
        self.assertLessEqual(len(ended["tokens"]), first + 1)

    def test_it_comes_back(self):
        self.set(do_sample=True, temperature=0.25, top_p=0.5, top_k=7, eos_token_id=[2, 5, 9])
        gguf, back = self.folder / "a.gguf", self.folder / "back"
        for command in (("convert", self.model, "--to", "gguf", "--out", gguf),
                        ("convert", gguf, "--to", "hf", "--out", back)):
            done = self.hone(*command)
            self.assertEqual(done.returncode, 0, done.stderr)
        metadata = json.loads(self.hone("inspect", gguf, "--json").stdout)["metadata"]
        self.assertEqual((metadata["general.sampling.temp"], metadata["general.sampling.top_k"]),
                         (0.25, 7))
        written = json.loads((back / "generation_config.json").read_text())
        for key, value in json.loads(self.settings.read_text()).items():
            self.assertEqual(written[key], value, key)

    def test_a_folder_without_it(self):
        self.settings.unlink()
        self.assertEqual(self.answer()[1], "")

    def test_what_it_cannot_say(self):
        for settings in ({"eos_token_id": "x"}, {"eos_token_id": [1, -1]}, {"eos_token_id": 1.5},
                         {"do_sample": True, "temperature": "hot"},
                         {"do_sample": True, "temperature": -1}, {"do_sample": True, "top_p": 2},
                         {"do_sample": True, "top_k": -3}):
            self.set(**settings)
            self.refused(USAGE, ["generation_config.json", list(settings)[-1]], "generate",
                         "--model", self.model, "--prompt", "a")
        self.settings.write_text("[]")
        self.refused(USAGE, ["generation_config.json"], "generate", "--model", self.model,
                     "--prompt", "a")

    def test_training_on_such_a_folder(self):
        self.set(do_sample=True, eos_token_id=[2, 5])
        data = self.write("data.jsonl", CHAT)
        done = self.hone("template", "--model", self.model, "--data", data, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    main()
