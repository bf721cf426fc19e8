# SPDX-License-Identifier: Apache-2.0
"""`hone bench train`: its figures agree with each other, whatever they are; wrong options get one
line. What a speed is depends on the machine and its neighbours: nothing is claimed of it."""
from support import TINY, Case, main

USAGE, WORK = 2, 1
SHAPE = "3,64,4,2,96,200"
PHASES = ("forward_seconds", "head_seconds", "backward_seconds", "update_seconds")


def gflop_per_token(shape, batch, length, rank):
    """Useful work of a token, counted from the sizes; rank 0: every weight is trained."""
    layers, channels, heads, kv_heads, forward, vocabulary = map(int, shape.split(","))
    keys = channels // heads * kv_heads
    matrices = [(channels, channels), (keys, channels), (keys, channels), (channels, channels),
                (forward, channels), (forward, channels), (channels, forward)]
    linear = layers * sum(a * b for a, b in matrices)
    adapters = layers * sum(rank * (a + b) for a, b in matrices)
    head = vocabulary * channels
    attention = 14 * channels * layers * length / 2
    computed = (length - 1) / length  # the last token is only predicted
    return 1e-9 * computed * ((4 if rank else 6) * (linear + head) + 6 * adapters + attention)


class Train(Case):
    def train(self, *options):
        [event], messages = self.events("bench", "train", "--seconds", "0.01", *options)
        self.assertEqual(event["bench"], "train")
        self.assertAlmostEqual(event["share"], event["gflops"] / event["peak_gflops"], delta=1e-3)
        seconds = event["step_seconds"]
        self.assertAlmostEqual(event["tokens_per_s"] * seconds / event["tokens"], 1, delta=1e-3)
        self.assertAlmostEqual(event["gflop_per_token"] * event["tokens_per_s"] / event["gflops"],
                               1, delta=1e-3)
        self.assertLessEqual(event["step_seconds_p10"], seconds)
        for phase in PHASES:
            self.assertGreater(event[phase], 0, phase)
            self.assertLess(event[phase], 100 * seconds, phase)
        self.assertGreaterEqual(event["steps"], 1)
        self.assertGreater(event["rss_bytes"], 1 << 20)
        return event, messages

    def test_figures(self):
        for options, rank in ((["--type", "f32"], 16), (["--type", "q8_0", "--rank", 3], 3),
                              (["--method", "full", "--type", "bf16"], 0),
                              (["--accumulate", 3, "--threads", 1, "--isa", "generic"], 16)):
            with self.subTest(options=options):
                event, messages = self.train("--shape", SHAPE, "--batch", 5, "--length", 12,
                                             *options)
                self.assertEqual(messages, "")
                self.assertEqual((event["tokens"], event["targets"]), (60, 55))
                self.assertAlmostEqual(event["gflop_per_token"] /
                                       gflop_per_token(SHAPE, 5, 12, rank), 1, delta=1e-6)
        self.assertEqual((event["threads"], event["isa"]), (1, "generic"))

    def test_every_type(self):
        for kind in ("f16", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "q2_k",
                     "q3_k", "iq4_nl", "iq4_xs", "mxfp4"):
            with self.subTest(kind=kind):
                self.train("--shape", "1,256,2,1,256,50", "--type", kind, "--length", 5)

    def test_odd_sizes(self):
        self.train("--shape", "1,6,3,1,7,2", "--type", "f32", "--rank", 1, "--length", 2,
                   "--batch", 1)
        self.train("--shape", "2,50,5,5,33,3", "--type", "f32", "--rank", 7, "--length", 19,
                   "--batch", 7, "--accumulate", 7)

    def test_a_file(self):
        event, _ = self.train("--model", TINY, "--length", 20)
        self.assertEqual(event["model"], str(TINY))

    def test_without_effect(self):
        _, messages = self.train("--model", TINY, "--length", 20, "--type", "f32", "--causal")
        self.assertIn("--type has no effect", messages)
        self.assertIn("--causal has no effect", messages)

    def test_options_of_another_benchmark(self):
        for what, shape in (("layer", "2,3,4,5"), ("matmul", "7,8,9")):
            done = self.hone("bench", what, "--shape", shape, "--seconds", "0.01", "--causal",
                             "--rank", 3)
            self.assertEqual(done.returncode, 0)
            for option in ("--causal", "--rank"):
                self.assertIn(f"{option} has no effect", done.stderr)

    def test_lines(self):
        done = self.hone("bench", "train", "--shape", SHAPE, "--seconds", "0.01")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for part in ("tokens/s", "of the peak", "forward"):
            self.assertIn(part, done.stdout)

    def test_refused(self):
        for says, *options in (
                (["7B", "135M"], "--shape", "7B"), (["layers,C"], "--shape", "2,64,2,1,64"),
                (["layers,C"], "--shape", "2,64,2,1,64,9,9"), (["layers,C"], "--shape", ""),
                (["layers,C"], "--shape", "2,64,-2,1,64,9"), (["0 layers"], "--shape",
                                                              "0,64,2,1,64,9"),
                (["0 heads"], "--shape", "2,64,0,0,64,9"), (["4097"], "--shape", "4097,64,2,1,64,9"),
                (["65", "2"], "--shape", "2,65,2,1,64,9"), (["3 key"], "--shape", "2,64,2,3,64,9"),
                (["odd"], "--shape", "2,66,2,1,64,9", "--type", "f32"),
                (["512"], "--shape", "2,512,1,1,64,9"), (["vocabulary"], "--shape",
                                                         "2,64,2,1,64,0"),
                (["blocks of 32"], "--shape", "2,64,2,1,70,9"),
                (["blocks of 256"], "--shape", "2,64,2,1,64,9", "--type", "q6_k"),
                (["q9", "q4_1"], "--type", "q9"), (["iq2_s", "q4_k"], "--type", "iq2_s"),
                (["dora", "lora"], "--method", "dora"),
                (["--rank 65"], "--shape", "2,64,2,1,64,9", "--rank", 65),
                (["--rank is 99999999999"], "--rank", 99999999999), (["--rank"], "--rank", 0),
                (["--length is 1"], "--length", 1), (["--length"], "--length", "long"),
                (["--batch"], "--batch", 0), (["--batch"], "--batch", 10**12),
                (["16777216"], "--batch", 100000, "--length", 100000),
                (["--accumulate is 5"], "--accumulate", 5), (["--seconds"], "--seconds", 0),
                (["none.gguf"], "--model", "none.gguf"),
                (["not both"], "--model", TINY, "--shape", SHAPE),
                (["257", "256"], "--model", TINY, "--length", 257),
                (["--ranks"], "--ranks", 3), (["weird"], "--isa", "weird")):
            with self.subTest(options=options):
                self.refused(USAGE, says, "bench", "train", *options)

    def test_more_than_the_machine_has(self):
        self.refused(WORK, ["MiB"], "bench", "train", "--shape",
                     "4000,1048576,8192,8192,1048576,1048576")
        self.refused(WORK, ["activations"], "bench", "train", "--shape", "400,256,4,4,64,100",
                     "--rank", 1, "--batch", 16, "--length", 1 << 20)


class Tokenize(Case):
    def test_figures_agree(self):
        path = self.write("text", "the tower and the tree. " * 500)
        [event], _ = self.events("bench", "tokenize", "--model", TINY, "--text", path,
                                 "--seconds", "0.01")
        self.assertEqual(event["bytes"], path.stat().st_size)
        self.assertGreater(event["tokens"], 500)
        self.assertGreaterEqual(event["turns"], 3)
        self.assertGreater(event["mb_per_s"], 0)

    def test_what_is_missing(self):
        self.refused(2, ["--text"], "bench", "tokenize", "--model", TINY)
        self.refused(2, ["nowhere"], "bench", "tokenize", "--model", TINY, "--text", "nowhere")
        self.refused(2, ["empty"], "bench", "tokenize", "--model", TINY, "--text",
                     self.write("empty", b""))


if __name__ == "__main__":
    main()
