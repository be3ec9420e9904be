"""internvl itself, measured with its own `bench` and `chat`; one process a call, so nothing stays warm between calls."""

import json
import os
import subprocess
import sys
import tempfile

TEXT_TOKENS = 213  # of the prompt that `bench` asks about a picture: system message, question, marks
TINY = {"--tiles": 1, "--prompt-tokens": 16, "--context": 16, "--tokens": 1, "--sequences": 1}


class Ours:
    def __init__(self, program, model, image, threads, quant, max_num):
        self.quant = quant
        self._program, self._image = program, image
        self._picture = ["--max-num", str(max_num)]
        self._flags = [str(model), "--threads", str(threads), "--quant", quant]

    def _run(self, *words):
        run = subprocess.run([str(self._program), *map(str, words)], stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            raise SystemExit(f"internvl {words[0]} failed (see above)")
        return run.stdout.splitlines()

    def measure(self, measure, repeat):
        """Median milliseconds of `repeat` runs; the rest of `bench` is kept as small as it can be."""
        flags = [word for pair in {**TINY, **measure.ours}.items() for word in pair]
        if measure.picture:
            flags += ["-i", self._image, *self._picture]
        lines = self._run("bench", *self._flags, "--json", "--repeat", repeat, *flags)
        for line in map(json.loads, lines):
            if line["name"] == measure.line and line.get("batch", measure.sequences) == measure.sequences:
                return line["ms"]
        raise SystemExit(f"internvl bench says nothing about {measure.name}")

    def prompt_of(self):
        """Tiles of the picture, and tokens of the prompt that `bench` asks about it."""
        lines = self._run("tiles", "--json", self._image, *self._picture)
        tiles = json.loads(lines[0])
        return {"tiles": tiles["tiles"], "tokens": tiles["tokens"] + TEXT_TOKENS}

    def peak_mb(self):
        """The most memory that a question about the picture, with four tokens of answer, has resident."""
        words = ["chat", *self._flags, "-i", str(self._image), *self._picture,
                 "-p", "Please describe the image.", "--max-new-tokens", "4"]
        with tempfile.TemporaryFile() as unused:
            child = subprocess.Popen([str(self._program), *words], stdout=unused, stderr=unused)
            _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            raise SystemExit("internvl chat failed; run it by hand to see why")
        return usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)

    def about(self):
        return ", ".join(self._run("--version"))
