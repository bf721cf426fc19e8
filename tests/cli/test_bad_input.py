# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that says what, where and what to do; status 2 or 1; nothing half-written."""
import os
import pathlib
import pickle
import resource
import shutil
import signal
import subprocess

from support import CHAT, TEXTS, TINY, Case, Gguf, main

USAGE, WORK = 2, 1


class Models(Case):
    def refuse(self, content, says, name="model.gguf"):
        path = self.write(name, bytes(content))
        data = self.write("data.jsonl", TEXTS)
        out = self.folder / "out"
        self.refused(USAGE, [path, *says], "finetune", "--model", path, "--data", data, "--out",
                     out)
        self.assertFalse(out.exists())
        self.refused(USAGE, [path, *says], "eval", "--model", path, "--data", data)

    def test_truncated(self):
        whole = Gguf()
        for length in (1, 3, 8, 20, 24, 60, whole.header // 2, whole.header - 1, whole.header,
                       len(whole.bytes) // 2, len(whole.bytes) - 40):
            with self.subTest(length=length):
                self.refuse(whole.bytes[:length], [])

    def test_truncated_says_the_sizes(self):
        whole = Gguf()
        self.refuse(whole.bytes[:-4096], [len(whole.bytes) - 4096])

    def test_empty(self):
        self.refuse(b"", [])

    def test_not_gguf(self):
        self.refuse(b"{\"this\": \"is JSON\"}" * 10, ["GGUF"])

    def test_pickles(self):
        """Which can run code when they are read: refused, with the way out."""
        for protocol in range(2, 6):
            self.refuse(pickle.dumps({"a": 1}, protocol) * 10, ["Python pickle", "safetensors"])
        self.refuse(b"PK\x03\x04archive/data.pkl" * 10, ["zip archive", "safetensors"])

    def test_version(self):
        self.refuse(Gguf().put(4, "<I", 77).bytes, ["77"])

    def test_tensor_past_the_end(self):
        file = Gguf()
        name = "blk.1.ffn_down.weight"
        self.refuse(file.put(file.offsets[name], "<Q", len(file.bytes) - 64).bytes, [name])
        self.refuse(file.put(file.offsets[name], "<Q", 2**64 - 32).bytes, [name])

    def test_unknown_architecture(self):
        self.refuse(Gguf().put_string("general.architecture", "mamba").bytes, ["mamba", "llama"])

    def test_unknown_tensor_type(self):
        name = "blk.0.attn_v.weight"
        for kind, says in ((99, "99"), (4, "4")):
            with self.subTest(kind=kind):
                file = Gguf()
                self.refuse(file.put(file.types[name], "<i", kind).bytes, [name, says])

    def test_known_but_unsupported_tensor_type(self):
        file = Gguf()
        name = "blk.0.attn_v.weight"
        self.refuse(file.put(file.types[name], "<i", 26).bytes, [name, "I32", "Q4_0"])

    def test_unknown_tokenizer(self):
        self.refuse(Gguf().put_string("tokenizer.ggml.model", "spm2").bytes, ["spm2", "gpt2"])
        self.refuse(Gguf().put_string("tokenizer.ggml.pre", "gollum").bytes, ["gollum", "smollm"])

    def test_sizes_that_disagree(self):
        file = Gguf()
        self.refuse(file.put(file.values["llama.feed_forward_length"], "<I", 41).bytes,
                    ["41", "40"])

    def test_missing(self):
        path = self.folder / "nowhere.gguf"
        data = self.write("data.jsonl", TEXTS)
        self.refused(USAGE, [path], "eval", "--model", path, "--data", data)
        self.refused(USAGE, [path], "inspect", path)

    def test_folder(self):
        data = self.write("data.jsonl", TEXTS)
        self.refused(USAGE, [self.folder], "eval", "--model", self.folder, "--data", data)


class Data(Case):
    def refuse(self, records, says, *options):
        data = self.write("data.jsonl", records)
        out = self.folder / "out"
        line = self.refused(USAGE, [data, *says], "finetune", "--model", TINY, "--data", data,
                            "--out", out, *options)
        self.assertFalse(out.exists())
        self.refused(USAGE, [data, *says], "eval", "--model", TINY, "--data", data,
                     *options)
        return line

    def after_good_ones(self, record):
        return CHAT[:2] + [record] + CHAT[2:]

    def test_missing(self):
        path = self.folder / "none.jsonl"
        self.refused(USAGE, [path], "finetune", "--model", TINY, "--data", path, "--out",
                     self.folder / "out")

    def test_empty(self):
        self.refuse("", ["no example"])
        self.refuse("\n  \n\n", ["no example"])
        self.refuse("", ["no example"], "--on-bad-example", "skip")

    def test_not_json(self):
        good = "{\"text\": \"a b c\"}\n"
        self.refuse(good * 3 + "{\"text\": \"a b\n" + good, [":4", "JSON"])
        self.refuse(good + "hello\n", [":2", "JSON"])
        self.refuse("\x1f\x8b\x08 not text", [":1", "JSON"])
        self.refuse(good + '{"text": "a\\u0000b"}', [":2", "\\u0000", "column"])
        self.refuse(good.encode("utf-16"), ["UTF-16"])

    def test_bytes_that_are_no_utf8(self):
        self.refuse(b"{\"text\": \"a\xff\xfeb\"}\n", [":1", "not UTF-8"])

    def test_how_many_more(self):
        self.refuse(CHAT + ["x", "y", "z"],
                    [f":{len(CHAT) + 1}", "2 more", "--on-bad-example skip"])

    def test_all_bad_even_if_skipped(self):
        self.refuse(["x", "y"], [":1", "2"], "--on-bad-example", "skip")

    def test_empty_mask(self):
        silent = {"messages": [{"role": "user", "content": "a"},
                               {"role": "assistant", "content": "b", "weight": 0}]}
        self.refuse(self.after_good_ones(silent), [":3"])
        self.refuse(self.after_good_ones({"messages": [{"role": "user", "content": "a"}]}), [":3"])

    def test_no_target_after_cutting(self):
        long = {"messages": [{"role": "user", "content": "a b " * 30},
                             {"role": "assistant", "content": "c"}]}
        self.refuse(self.after_good_ones(long), [":3", "40", "--max-length"], "--max-length", "40")

    def test_unknown_role(self):
        wrong = {"messages": [{"role": "wizard", "content": "a"},
                              {"role": "assistant", "content": "b"}]}
        self.refuse(self.after_good_ones(wrong), [":3", "wizard", "user"])
        wrong["messages"][0]["role"] = "äö" * 5000
        line = self.refuse(self.after_good_ones(wrong), [":3", "'" + "äö" * 10 + "'", "user"])
        self.assertNotIn("äö" * 11, line)

    def test_wrong_shapes(self):
        for record, says in (({"message": "a"}, "message"), ([1, 2], "list"), (7, "number"),
                             ({"messages": "a"}, "messages"), ({"messages": []}, "empty"),
                             ({"messages": [{"role": "user"}]}, "content"),
                             ({"prompt": "a", "completion": 7}, "completion"),
                             ({"text": None}, "text")):
            with self.subTest(record=record):
                self.refuse(self.after_good_ones(record), [":3", says])

    def test_other_formats(self):
        for name, says in (("data.csv", "no example"), ("data.parquet", "pandas.read_parquet"),
                           ("data.jsonl.gz", "not JSON"), ("data.xlsx", "not JSON")):
            path = self.write(name, "a,b\n")
            self.refused(USAGE, [path, says], "eval", "--model", TINY, "--data", path)

    def test_held_out_data(self):
        data, bad = self.write("data.jsonl", CHAT), self.write("bad.jsonl", CHAT + ["x"])
        self.refused(USAGE, [bad, f":{len(CHAT) + 1}"], "finetune", "--model", TINY, "--data", data,
                     "--eval-data", bad, "--out", self.folder / "out")
        self.assertFalse((self.folder / "out").exists())


class Options(Case):
    def refuse(self, says, *options, command="finetune"):
        data, out = self.write("data.jsonl", CHAT), self.folder / "out"
        self.refused(USAGE, says, command, "--model", TINY, "--data", data, "--out", out, *options)
        self.assertFalse(out.exists())

    def test_numbers(self):
        for option, value in (("rank", "0"), ("rank", "-3"), ("rank", "four"), ("rank", "1e9"),
                              ("rank", "999999999999999999999"), ("alpha", "0"), ("steps", "-1"),
                              ("batch", "-4"), ("lr", "-1"), ("lr", "nan"), ("epochs", "0"),
                              ("max-length", "99G"), ("max-length", "1"), ("accumulate", "0"),
                              ("beta2", "1"), ("threads", "-1"), ("eval-split", "-0.1"),
                              ("eval-split", "8"), ("checkpoint-every", "soon"), ("layers", "-1"),
                              ("lr", "0"), ("batch", "0"), ("steps", "0"), ("threads", "0"),
                              ("eval-every", "0"), ("max-length", "0"), ("batch-tokens", "0")):
            with self.subTest(option=option, value=value):
                self.refuse([option.replace("max-", ""), "want" if value == "0" else ""],
                            f"--{option}", value)

    def test_words(self):
        self.refuse(["schedule", "sideways", "cosine"], "--schedule", "sideways")
        self.refuse(["method", "magic", "lora"], "--method", "magic")
        self.refuse(["loss-on", "user", "assistant"], "--loss-on", "user")
        self.refuse(["on-bad-example", "cry", "skip"], "--on-bad-example", "cry")
        self.refuse(["shuffle", "maybe"], "--shuffle", "maybe")
        self.refuse(["precision", "f8", "f32"], "--precision", "f8")
        self.refuse(["targets", "quux", "gate"], "--targets", "q,quux")
        self.refuse(["type", "f4", "f16"], "--method", "full", "--type", "f4")
        self.refuse(["mmx", "generic"], "--isa", "mmx")

    def test_misspelt_option(self):
        self.refuse(["--ranke", "--rank"], "--ranke", "4")
        self.refuse(["--leanring-rate"], "--leanring-rate", "4")
        self.refuse(["--epochs"], "--epoch", "1")

    def test_option_without_value(self):
        self.refuse(["--rank"], "--rank")

    def test_stray_word(self):
        self.refuse(["notes.txt"], "notes.txt")

    def test_together(self):
        self.refuse(["batch", "batch-tokens"], "--batch", "4", "--batch-tokens", "100")
        self.refuse(["merge"], "--method", "full", "--adapter", self.folder)

    def test_missing_options(self):
        data = self.write("data.jsonl", CHAT)
        self.refused(USAGE, ["--model"], "finetune", "--data", data, "--out", self.folder / "out")
        self.refused(USAGE, ["--data"], "finetune", "--model", TINY, "--out", self.folder / "out")
        self.refused(USAGE, ["--out"], "finetune", "--model", TINY, "--data", data)
        self.refused(USAGE, ["--model"], "eval", "--data", data)
        self.refused(USAGE, ["--adapter"], "merge", "--model", TINY, "--out", self.folder / "out")
        self.refused(USAGE, ["file"], "inspect")

    def test_commands(self):
        self.refused(USAGE, ["finetun", "finetune"], "finetun")
        self.refused(USAGE, ["evaluate-it"], "evaluate-it")
        done = self.hone()
        self.assertEqual(done.returncode, USAGE)
        self.assertIn("finetune", done.stderr)

    def test_help(self):
        for command in ("finetune", "eval", "embed", "generate", "chat", "tokenize", "template", "inspect",
                        "merge", "bench"):
            done = self.hone(command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("--threads", done.stdout)

    def test_one_data_file_given_twice(self):
        """Its held-out examples would be training examples too."""
        data = self.write("twice.jsonl", CHAT)
        other = data.parent / "." / "other.jsonl"
        other.symlink_to(data)
        self.refuse([str(data), "twice as --data"], "--data", other, "--data", data)

    def test_config_file(self):
        for text, says in (("ranke: 4\n", ":1"),
                           ("rank: 4\nlr: fast\n", "config.yaml:2: lr is \"fast\""),
                           ("rank: \"4\n", "YAML"),
                           ("rank: 4\nlr: 1\nrank: 4\n", "config.yaml:3: this option was given before"),
                           ("rank: [1\n", "rank"), ("just words\n", "option: value"),
                           ("rank:\n  deep: 4\n", ":")):
            with self.subTest(text=text):
                self.refuse([says], "--config", self.write("config.yaml", text))
        self.refuse(["nothing.yaml"], "--config", self.folder / "nothing.yaml")

    def test_choices_with_a_byte_order_mark(self):
        data = self.write("data.jsonl", CHAT)
        plain = self.write("plain", "yes\nno\n")
        marked = self.write("marked", b"\xef\xbb\xbfyes\r\nno\r\n")
        results = [self.events("eval", "--model", TINY, "--data", data, "--choices", choices)[0]
                   for choices in (plain, marked)]
        for a, b in zip(*results):
            self.assertEqual(a.get("choice"), b.get("choice"))
        cut = self.write("cut", b"ye\0s\nno\n")
        self.refused(USAGE, ["/dev/zero", "cannot open"], "eval", "--model", TINY, "--data", data,
                     "--choices", "/dev/zero")
        self.refused(USAGE, [cut, "NUL"], "eval", "--model", TINY, "--data", data, "--choices", cut)

    def test_endless_answers_end(self):
        done = self.hone("generate", "--model", TINY, "--prompt", "hi", "--max-tokens", 2**63 - 1,
                         "--json")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_pipes_are_no_data(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        self.refused(USAGE, [fifo, "regular"], "eval", "--model", TINY, "--data", fifo, timeout=20)

    def test_choices(self):
        data = self.write("data.jsonl", CHAT)
        one = self.write("choices", "only\n")
        self.refused(USAGE, [one, "2"], "eval", "--model", TINY, "--data", data, "--choices", one)
        missing = self.folder / "none"
        self.refused(USAGE, [missing], "eval", "--model", TINY, "--data", data, "--choices",
                     missing)
        texts = self.write("texts.jsonl", TEXTS)
        choices = self.write("choices", "one\ntwo\n")
        self.refused(USAGE, ["answer"], "eval", "--model", TINY, "--data", texts, "--choices",
                     choices)


class Bench(Case):
    def test_refused(self):
        for says, *options in ((["1,2,x", "B,H,K"], "attention", "--shape", "1,2,x"),
                               (["M,N,K"], "matmul", "--shape", "4,4"),
                               (["attentoin"], "attentoin"), (["of what"],),
                               (["kv_heads", "3"], "attention", "--shape", "1,8,3,9,9,64"),
                               (["f64"], "attention", "--dtype", "f64"),
                               (["f99"], "matmul", "--dtype", "f99"),
                               (["dropout"], "attention", "--dropout", "1"),
                               (["blocks of 32"], "matmul", "--dtype", "q4_1", "--shape", "4,4,33"),
                               (["sideways"], "attention", "--mask", "sideways")):
            with self.subTest(options=options):
                self.refused(USAGE, says, "bench", *options)

    def test_figures(self):
        events, _ = self.events("bench", "all", "--seconds", "0.01")
        self.assertEqual([event["bench"] for event in events], ["attention", "layer", "matmul"])
        options = ["--shape", "2,4,2,33,40,24", "--causal", "--window", "9", "--dtype", "bf16",
                   "--dropout", "0.1", "--mask", "gradient"]
        [event], _ = self.events("bench", "attention", "--seconds", "0.01", *options)
        for key in ("fwd_gflops", "bwd_gflops", "peak_gflops", "fwd_fraction", "bwd_fraction"):
            self.assertGreater(event[key], 0, key)


class Adapters(Case):
    def test_folders_that_are_no_models(self):
        """A run's folder as --model: what is in it is told."""
        adapter = TINY.parent / "io" / "peft-plain"
        self.refused(USAGE, [adapter, "is an adapter, not a model", "--adapter"], "generate",
                     "--model", adapter, "--prompt", "x")
        shutil.copy(TINY, self.folder / "model.gguf")
        self.refused(USAGE, [f"the model in this folder is {self.folder}/model.gguf"], "generate",
                     "--model", self.folder, "--prompt", "x")

    def test_refused(self):
        data = self.write("data.jsonl", CHAT)
        fixtures = TINY.parent / "io"
        nan = f"{fixtures / 'peft-plain'}:nan"
        self.refused(USAGE, ["peft-plain", "nan"], "eval", "--model", TINY, "--data", data,
                     "--adapter", nan)
        for adapter, says in ((self.folder / "none", "none"), (self.folder, str(self.folder)),
                              (TINY, "adapter"), (fixtures / "peft-plain", "q"),
                              (fixtures / "peft-lora-bias", "lora_bias"), (data, "data.jsonl")):
            with self.subTest(adapter=adapter):
                out = self.folder / "out"
                self.refused(USAGE, [adapter, says], "eval", "--model", TINY, "--data", data,
                             "--adapter", adapter)
                self.refused(USAGE, [adapter, says], "finetune", "--model", TINY, "--data", data,
                             "--adapter", adapter, "--out", out)
                self.assertFalse(out.exists())

    def test_a_weight_that_is_no_number(self):
        """It is named; a path that holds a colon is a path, and one that is not there is missing."""
        evaluate = ["eval", "--model", TINY, "--data", self.write("data.jsonl", CHAT), "--adapter"]
        run = self.folder / "run"
        self.events("finetune", *evaluate[1:-1], "--steps", 1, "--eval-split", 0, "--out", run)
        for weight in ("abc", "", "0.5x", "inf", "nan", "1e999"):
            self.refused(USAGE, ["--adapter", f"run:{weight}", "a number behind the colon"],
                         *evaluate, f"{run}:{weight}")
        self.refused(USAGE, ["--data", "data.jsonl:x", "a number"], "finetune", "--model", TINY,
                     "--data", self.folder / "data.jsonl:x", "--out", run)
        config = self.write("c.yaml", f"data: {self.folder}/data.jsonl:x\n")
        self.refused(USAGE, ["c.yaml:1", "data", "a number"], "finetune", "--config", config)
        self.refused(USAGE, ["none:abc", "cannot open"], *evaluate, self.folder / "none:abc")
        [half], _ = self.events(*evaluate, f"{run}:0.5")
        whole = run.rename(self.folder / "run:abc")
        [one], _ = self.events(*evaluate, whole)
        [again], _ = self.events(*evaluate, f"{whole}:0.5")
        self.assertEqual(half["loss"], again["loss"])
        self.assertNotEqual(half["loss"], one["loss"])

    def test_resume(self):
        data, run = self.write("data.jsonl", CHAT), self.folder / "run"
        command = ["finetune", "--model", TINY, "--data", data, "--steps", 3]
        self.refused(USAGE, [run, "resume"], *command, "--resume", run)
        self.assertFalse(run.exists())
        self.events(*command, "--out", run)
        before = (run / "adapter.gguf").read_bytes()
        self.refused(USAGE, [run, "--lr was 0.0002", "is 0.5;", "--resume-changed"], *command, "--resume",
                     run, "--lr", "0.5")
        self.assertEqual((run / "adapter.gguf").read_bytes(), before)
        for file in (run / "checkpoint").iterdir():
            file.write_bytes(file.read_bytes()[:100])
        self.refused(USAGE, [run / "checkpoint"], *command, "--json", "--resume", run)


class Resume(Case):
    """A run is resumed as what it was, or not at all."""

    def setUp(self):
        super().setUp()
        self.data, self.run_folder = self.write("data.jsonl", CHAT), self.folder / "run"
        self.command = ["finetune", "--model", TINY, "--data", self.data, "--steps", 4]
        self.events(*self.command, "--targets", "q", "--out", self.run_folder)

    def test_other_targets_scale_and_model(self):
        for says, *options in (("--targets was \"q\" and is \"o\"", "--targets", "o"),
                               ("--rslora was not given and is \"on\"", "--targets", "q", "--rslora")):
            self.refused(USAGE, [self.run_folder, "what is trained is another", says], "finetune",
                         "--resume", self.run_folder, *options)
        other = self.folder / "other.gguf"
        model = bytearray(TINY.read_bytes())
        model[-4096:] = bytes(4096)
        other.write_bytes(model)
        self.refused(USAGE, [self.run_folder, "of another run: the model is another;"], "finetune", "--resume",
                     self.run_folder, "--model", other)

    def test_other_data(self):
        resume = ["finetune", "--resume", self.run_folder]
        self.data.write_text(self.data.read_text().replace("two", "ten"))
        line = self.refused(USAGE, ["the training data is another"], *resume)
        self.assertNotIn("model", line.split("another")[0])
        self.refused(USAGE, ["--lr", "--warmup", "--weight-decay", "and 2 more"], *resume, "--lr", "0.5",
                     "--seed", "3", "--clip", "2", "--warmup", "0.5", "--weight-decay", "0.5")
        held_out = self.write("held.jsonl", CHAT)
        self.refused(USAGE, ["the held-out data is another"], *resume, "--eval-data", held_out)

    def test_told_to_go_on(self):
        """From the weights and the step that were reached, by the new options."""
        events, _ = self.events("finetune", "--resume", self.run_folder, "--resume-changed",
                                "--steps", 6, "--lr", "0.5")
        steps = [event for event in events if event["event"] == "step"]
        self.assertEqual([step["step"] for step in steps], [5, 6])
        self.assertIn("\nlr: 0.5\n", (self.run_folder / "config.yaml").read_text())
        self.events("finetune", "--resume", self.run_folder)  # by its own options now
        self.refused(USAGE, ["values: it belongs to another run"], "finetune", "--resume",
                     self.run_folder, "--resume-changed", "--targets", "q,k")
        done = self.hone(*self.command, "--out", self.folder / "new", "--resume-changed")
        self.assertIn("--resume-changed has no effect without --resume", done.stderr)

    def test_into_another_run(self):
        other = self.folder / "other"
        self.events(*self.command, "--out", other)
        before = (other / "adapter.gguf").read_bytes()
        self.refused(USAGE, [other, self.run_folder], "finetune", "--resume", self.run_folder,
                     "--out", other)
        self.assertEqual((other / "adapter.gguf").read_bytes(), before)

    def test_into_a_new_folder(self):
        new = self.folder / "new"
        self.events("finetune", "--resume", self.run_folder, "--out", new)
        self.assertEqual((new / "metrics.jsonl").read_text().count('"event":"step"'), 4)

    def test_no_run(self):
        for folder in (self.folder / "none", self.folder, self.data):
            self.refused(USAGE, [folder, "not the folder of a run"], "finetune", "--resume", folder)


def small_disk(folder):
    """Mount a file system of 64 KiB on the folder; false where this process may not."""
    return subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
                          stderr=subprocess.DEVNULL).returncode == 0


class Places(Case):
    """Where the results cannot go."""

    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.command = ["finetune", "--model", TINY, "--data", self.data, "--steps", 3]

    def test_unwritable_folder(self):
        """Said before anything is read or planned, where it can be."""
        for out, says in ((self.data / "out", f"{self.data}: is a file, a folder is wanted"),
                          (self.data, f"{self.data}: is a file, a folder is wanted"),
                          (pathlib.Path("/proc/hone-out"), "/proc/hone-out")):
            with self.subTest(out=out):
                self.refused(WORK, [says], *self.command, "--json", "--out", out)
        done = self.hone(*self.command, "--json", "--out", self.data)
        self.assertEqual(done.stdout, "")
        self.assertEqual(self.data.read_text().count("\n"), len(CHAT))

    def test_unwritable_folder_without_permission(self):
        if os.geteuid() == 0:
            self.skipTest("root writes everywhere")
        closed = self.folder / "closed"
        closed.mkdir(mode=0o500)
        self.refused(WORK, [closed], *self.command, "--json", "--out", closed / "out")

    def test_folders_where_files_belong(self):
        """Said before the training, not after it."""
        for name in ("adapter.gguf", "adapter_config.json", "metrics.jsonl"):
            out = self.folder / f"with-{name}"
            (out / name).mkdir(parents=True)
            self.refused(WORK, [out / name, "is a folder"], *self.command, "--out", out)
        out = self.folder / "with-checkpoint"
        out.mkdir()
        (out / "checkpoint").write_text("")
        self.refused(WORK, [out / "checkpoint", "is a file"], *self.command, "--out", out)

    def test_model_that_would_replace_itself(self):
        out = self.folder / "own"
        out.mkdir()
        model = out / "model.gguf"
        model.write_bytes(TINY.read_bytes())
        self.refused(USAGE, [model, "--out"], "finetune", "--model", model, "--data", self.data,
                     "--method", "full", "--out", out)
        self.assertEqual(model.read_bytes(), TINY.read_bytes())

    def test_links_are_followed(self):
        run, target, link = self.folder / "run", self.folder / "target.gguf", self.folder / "link"
        self.events(*self.command, "--out", run)
        target.write_text("old")
        link.symlink_to(target)
        merge = ["merge", "--model", TINY, "--adapter", run]
        self.events(*merge, "--out", link)
        self.assertTrue(link.is_symlink() and target.read_bytes().startswith(b"GGUF"))
        dangling = self.folder / "dangling"
        dangling.symlink_to(self.folder / "nowhere")
        self.refused(WORK, [dangling], *merge, "--out", dangling)
        self.refused(USAGE, ["--out is empty"], *merge, "--out", "")
        self.refused(USAGE, ["--eval-data"], *merge, "--out", self.data, "--eval-data", self.data)
        self.refused(USAGE, [TINY], *merge, "--out", self.folder / "m.gguf", "--eval-data", TINY)
        self.assertFalse((self.folder / "m.gguf").exists())

    def test_unwritable_merge(self):
        run = self.folder / "run"
        self.events(*self.command, "--out", run)
        merge = ["merge", "--model", TINY, "--adapter", run]
        self.refused(WORK, ["data.jsonl/x.gguf"], *merge, "--out", self.data / "x.gguf")
        self.refused(WORK, ["no/x.gguf"], *merge, "--out", self.folder / "no" / "x.gguf")
        self.refused(USAGE, [self.folder], *merge, "--out", self.folder)
        self.refused(USAGE, ["q9", "f16"], *merge, "--out", self.folder / "x", "--type", "q9")

    def test_full_disk(self):
        """On a real full file system, as far as this process may make one."""
        disk = self.folder / "disk"
        disk.mkdir()
        if not small_disk(disk):
            self.skipTest("no permission to mount a small file system; see test_dev_full")
        try:
            # 27 kB of adapter fit once; the checkpoint's three arrays or the second form do not.
            self.refused(WORK, [disk, "No space left"], *self.command, "--json", "--out",
                         disk / "out")
            self.assertEqual(list(disk.rglob("*.tmp")), [])
            for path in disk.rglob("*.safetensors"):
                self.fail(f"{path} is there, although the run failed before it was whole")
            self.refused(WORK, [disk / "m.gguf", "No space left"], "merge", "--model", TINY,
                         "--adapter", self.adapter(), "--out", disk / "m.gguf", "--type", "f32")
            self.assertFalse((disk / "m.gguf").exists())
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def adapter(self):
        run = self.folder / "run"
        self.events(*self.command, "--out", run)
        return run

    def test_dev_full(self):
        """Files that a run writes, on a device that takes nothing. What stood there stays."""
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        for name in ("config.yaml", "adapter_model.safetensors", "adapter_config.json",
                     "adapter.gguf"):
            with self.subTest(name=name):
                out = self.folder / name
                out.mkdir()
                (out / (name + ".tmp")).symlink_to("/dev/full")
                (out / name).write_text("the old one")
                self.refused(WORK, [out / name, "No space left"], *self.command, "--json", "--out",
                             out)
                self.assertFalse((out / (name + ".tmp")).exists())
                self.assertEqual((out / name).read_text(), "the old one")

    def test_full_metrics(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        out = self.folder / "out"
        out.mkdir()
        (out / "metrics.jsonl").symlink_to("/dev/full")
        self.refused(WORK, [out / "metrics.jsonl", "No space left"], *self.command, "--json",
                     "--out", out)

    def test_largest_file(self):
        """A limit in the middle of a file: what was written goes away again."""
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

        run, out = self.adapter(), self.folder / "m.gguf"
        self.refused(WORK, [out, "File too large"], "merge", "--model", TINY, "--adapter", run,
                     "--out", out, "--type", "f32", preexec_fn=limit)
        self.assertFalse(out.exists())

    def test_a_folder_that_does_not_fit(self):
        """Whichever file fails, nothing stays behind, and a folder that was there does."""
        def limited(size):
            def limit():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return limit

        source, new, empty = (self.folder / name for name in ("source", "new", "empty"))
        self.hone("convert", TINY, "--to", "hf", "--out", source)
        (source / "special_tokens_map.json").write_text("{}" + " " * 100000)  # beyond the weights
        empty.mkdir()
        for size in (1000, 80000):
            for out in (new, empty):
                self.refused(WORK, [out, "File too large"], "convert", source, "--to", "hf",
                             "--out", out, preexec_fn=limited(size))
            self.assertFalse(new.exists())
            self.assertEqual(list(empty.iterdir()), [])

    def test_full_standard_output(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        with open("/dev/full", "w") as full:
            self.refused(WORK, ["standard output"], "inspect", TINY, stdout=full)


if __name__ == "__main__":
    main()
