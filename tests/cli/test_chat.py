# SPDX-License-Identifier: Apache-2.0
"""hone chat, piped and at a terminal: turns, its commands, and what it saves."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from support import CHAT, HONE, TINY, Case, main

USAGE, WORK = 2, 1


class Chat(Case):
    def talk(self, text, *arguments, status=0):
        """The JSON lines of a chat that reads `text`, and what it said on stderr."""
        done = subprocess.run([HONE, "chat", "--model", str(TINY), "--max-tokens", "12", "--json",
                               *map(str, arguments)], input=text, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
        self.assertEqual(done.returncode, status, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def texts(self, text, *arguments):
        return [line["text"] for line in self.talk(text, *arguments)[0]]

    def answer(self, prompt, *arguments):
        [event], _ = self.events("generate", "--model", TINY, "--max-tokens", "12", "--prompt",
                                 prompt, *arguments)
        return event["text"]

    def train(self, name, seed):
        self.events("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT), "--out",
                    self.folder / name, "--steps", "12", "--lr", "0.05", "--seed", seed,
                    "--eval-split", "0")
        return self.folder / name

    def test_turns(self):
        first, second = self.texts("in or on\na b\n")
        self.assertEqual(first, self.answer("in or on"))
        self.assertEqual(self.texts("in or on\n/reset\na b\n")[1], self.answer("a b"))
        self.assertEqual(self.texts("in or on\r\n\n\na b"), [first, second])
        self.assertEqual(self.texts("a b\n/quit\na b\n"), [self.answer("a b")])
        # It knows what was said before: the context is full in the end, unless it begins anew.
        _, said = self.talk("in or on\n" * 20, status=USAGE)
        self.assertIn("the model's context is 256", said)
        self.assertEqual(self.texts("in or on\n/reset\n" * 20), [first] * 20)

    def test_system(self):
        want = self.answer("a b", "--system", "the end")
        self.assertEqual(self.texts("a b\n", "--system", "the end"), [want])
        self.assertEqual(self.texts("x\n/system the end\na b\n/reset\na b\n/system\na b\n")[1:],
                         [want, want, self.answer("a b")])

    def test_several_lines(self):
        want = self.answer("a b\nin or on\n\nc")
        self.assertEqual(self.texts('"""\na b\nin or on\n\nc\n"""\n'), [want])
        self.assertEqual(self.texts("a b\\\nin or on\\\n\\\nc\n"), [want])
        self.assertEqual(self.texts("//help\n"), [self.answer("/help")])

    def test_adapters(self):
        one, two = self.train("one", 1), self.train("two", 2)
        base = self.answer("in or on")
        texts = [self.answer("in or on", "--adapter", path) for path in (one, two)]
        self.assertEqual(len({base, *texts}), 3)
        ask = "in or on\n"
        self.assertEqual(self.texts(f"{ask}/base\n{ask}/adapter\n{ask}/adapter {two}\n{ask}/base\n{ask}",
                                    "--adapter", one), [texts[0], base, texts[0], texts[1], base])
        lines, _ = self.talk(f"/compare\n{ask}/reset\n{ask}/compare\n/reset\n{ask}", "--adapter", one)
        both = {"text": texts[0], "base": base}
        self.assertEqual(lines, [both, both, {"text": texts[0]}])
        # One that cannot be used changes nothing.
        lines, said = self.talk(f"/adapter {self.folder}/none\n{ask}", "--adapter", one, status=WORK)
        self.assertEqual(lines, [{"text": texts[0]}])
        self.assertIn("none", said)
        _, said = self.talk("/compare\n", status=WORK)
        self.assertIn("there is no adapter", said)
        done = subprocess.run([HONE, "chat", "--model", str(TINY), "--max-tokens", "12", "--adapter",
                               str(one)], input="/compare\n" + ask, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
        self.assertEqual(done.stdout, f"[without] {base}\n[with]    {texts[0]}\n")

    def test_what_is_saved_can_be_trained_on(self):
        path = self.folder / "talks.jsonl"
        text = (f'/system the end\n"""\na "b"\n\tc\n"""\nin or on\n/save {path}\n/reset\nx y\n'
                f"/save {path}\n")
        answers = self.texts(text)
        records = [json.loads(line) for line in path.read_text().splitlines()]
        system = {"role": "system", "content": "the end"}
        self.assertEqual([record["messages"][0] for record in records], [system, system])
        self.assertEqual([[m["content"] for m in record["messages"][1:]] for record in records],
                         [['a "b"\n\tc', answers[0], "in or on", answers[1]], ["x y", answers[2]]])
        events, _ = self.events("finetune", "--model", TINY, "--data", path, "--out",
                                self.folder / "run", "--steps", "1", "--eval-split", "0")
        self.assertEqual(events[-1]["event"], "done")
        for bad, says in ((f"/save {path}\n", "nothing has been said"), ("/save\n", "wants a file"),
                          ("a\n/save /nowhere/at/all\n", "No such file")):
            self.assertIn(says, self.talk(bad, status=WORK)[1])

    def test_commands_that_there_are_not(self):
        _, said = self.talk("/rest\n", status=WORK)
        self.assertIn("did you mean /reset?", said)
        _, said = self.talk("/zzzzzzzz\n", status=WORK)
        self.assertIn("/help", said)
        _, said = self.talk("/help\n")
        for name in ("/reset", "/system TEXT", "/adapter PATH", "/base", "/compare", "/save FILE"):
            self.assertIn(name, said)

    def test_at_a_terminal(self):
        leader, follower = pty.openpty()
        process = subprocess.Popen([HONE, "chat", "--model", str(TINY), "--max-tokens", "5"],
                                   stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)
        seen = b""

        def until(part):
            nonlocal seen
            while part not in seen:
                self.assertTrue(select.select([leader], [], [], 120)[0], seen)
                seen += os.read(leader, 4096)
            seen = seen[seen.index(part) + len(part):]

        until(b"> ")
        os.write(leader, b"/help\n")
        until(b"/compare")
        until(b"> ")
        os.write(leader, b'"""\n')
        until("… ".encode())
        os.write(leader, b"a b\n")
        until("… ".encode())
        os.write(leader, b'"""\n')
        until(b"> ")
        os.write(leader, b"/nothing\n")  # tells, and goes on
        until(b"there is no /nothing")
        until(b"> ")
        os.write(leader, b"\x04")
        self.assertEqual(process.wait(120), 0)
        os.close(leader)

    def test_ctrl_c_ends_the_answer_then_the_chat(self):
        """The answer goes to a pipe that is all but full, so that it is still being made when Ctrl-C
        comes."""
        room, page = 16, 4096
        whole = self.answer("in or on", "--max-tokens", "200")
        self.assertGreater(len(whole.encode()), 4 * room)
        leader, follower = pty.openpty()
        out, into = os.pipe()
        self.assertEqual(fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, page), page)
        os.write(into, b"-" * (page - room))
        process = subprocess.Popen([HONE, "chat", "--model", str(TINY), "--max-tokens", "200",
                                    "--temperature", "0"], stdin=follower, stdout=into,
                                   stderr=follower)
        os.close(follower)
        seen = b""

        def until(part):
            nonlocal seen
            while part not in seen:
                self.assertTrue(select.select([leader], [], [], 120)[0], seen)
                seen += os.read(leader, 4096)
            seen = seen[seen.index(part) + len(part):]

        def waiting():
            return int.from_bytes(fcntl.ioctl(out, termios.FIONREAD, bytes(4)), sys.byteorder)

        until(b"> ")
        os.write(leader, b"in or on\n")
        while waiting() <= page - room:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # it comes before room does; were it not, the answer would be whole
        said = b""
        while b"\n" not in said:
            said += os.read(out, page)
        said = said[page - room:].decode(errors="replace").rstrip("\n")
        until(b"stopped; what was said of it stays")
        until(b"> ")
        self.assertTrue(whole.startswith(said.rstrip("\ufffd")), (said, whole))
        self.assertLess(len(said), len(whole))
        self.assertIsNone(process.poll())
        os.write(leader, b"/reset\n")
        until(b"> ")
        os.write(leader, b"in or on\n")  # it answers as before
        again = b""
        while b"\n" not in again:
            again += os.read(out, page)
        self.assertEqual(again.decode(errors="replace").rstrip("\n"), whole)
        until(b"> ")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(120), -signal.SIGINT)
        for end in (leader, out, into):
            os.close(end)

    def screen(self, text, columns, rows):
        """What a terminal shows after these bytes: lines."""
        lines, row, column = [[" "] * columns], 0, 0
        for command, number, letter in re.findall(r"(\x1b\[(\d*)([A-Za-z])|[^\x1b])", text):
            step = int(number or 1)
            if letter == "A":
                row -= step
                self.assertGreaterEqual(row, len(lines) - rows)
            elif letter == "B":
                row += step
                self.assertLess(row, len(lines))
            elif letter == "C":
                column += step
            elif letter in ("m", "K"):
                pass
            elif command == "\r":
                column = 0
            elif command == "\n":
                row += 1
                while len(lines) <= row:
                    lines.append([" "] * columns)
            else:
                self.assertLess(column, columns, "nothing runs over the edge")
                lines[row][column] = command
                column += 1
        return ["".join(line).rstrip() for line in lines]

    def learn(self, answer, *arguments):
        """A run that learns this answer to one question by heart; its folder."""
        data = self.write("heart.jsonl", [{"messages": [
            {"role": "user", "content": "in or on"},
            {"role": "assistant", "content": answer}]}] * 8)
        out = self.folder / answer[:3]
        self.events("finetune", "--data", data, "--out", out, "--steps", "150", "--eval-split", "0",
                    *arguments)
        return out

    def compare_at(self, columns, rows, *arguments):
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        done = subprocess.Popen([HONE, "chat", "--max-tokens", "100", *map(str, arguments)],
                                stdin=subprocess.PIPE, stdout=follower, stderr=subprocess.PIPE)
        os.close(follower)
        done.stdin.write(b"/compare\nin or on\n")
        done.stdin.close()
        text = b""
        try:
            while True:
                text += os.read(leader, 4096)
        except OSError:  # the other end is closed
            pass
        self.assertEqual(done.wait(120), 0)
        done.stderr.close()
        os.close(leader)
        return text.decode(errors="replace")

    def test_compare_in_columns(self):
        base = ("the tower and the tree stand in the same field, one of them an old thing, the other "
                "a new one, and in the end both are seen from there")
        text = ("no, it is the other one:\nof all that is here it was the last to come, and then "
                "there is the rest of it")
        model = self.learn(base, "--model", TINY, "--method", "full", "--lr", "0.01") / "model.gguf"
        both = "--model", model, "--adapter", self.learn(text, "--model", model, "--lr", "0.02")

        def words(lines):
            return "".join("".join(lines).split())

        for columns in (80, 121):
            lines = self.screen(self.compare_at(columns, 24, *both), columns, 24)
            half = (columns - 3) // 2
            self.assertEqual(lines[0].split(), ["[without]", "[with]"])
            self.assertEqual(lines[0].index("[with]"), half + 3)
            self.assertEqual(words(line[:half] for line in lines[1:]), words([base]))
            self.assertEqual(words(line[half + 3:] for line in lines[1:]), words([text]))
            self.assertEqual(words(line[half:half + 3] for line in lines), "")
            for line in lines[1:]:  # no word is cut
                self.assertLessEqual(set(line[:half].split()), set(base.split()))
                self.assertLessEqual(set(line[half + 3:].split()), set(text.split()))
            self.assertIn("no, it is the other one:", [line[half + 3:] for line in lines])
        below = self.compare_at(80, 5, *both)  # the left one is as high as the terminal
        self.assertEqual(words(self.screen(below, 80, 5)),
                         words(["[without]", base, "[with]", text]))
        narrow = self.compare_at(79, 24, *both).replace("\r", "")
        self.assertIn(f"[without] {base}\n[with]    {text}\n", narrow)
        self.assertNotIn("\x1b", narrow)


if __name__ == "__main__":
    main()
