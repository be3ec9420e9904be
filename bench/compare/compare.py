#!/usr/bin/env python3
"""Measures internvl and what else can run an InternVL2 folder on this machine, in turns, and prints one table.

    python3 bench/compare/compare.py MODEL_DIR -i picture.jpg
    python3 bench/compare/compare.py MODEL_DIR -i picture.jpg --only openvino --variants int8 --runs 5
    python3 bench/compare/compare.py MODEL_DIR --python openvino=~/venvs/ov/bin/python --quick

Each measure is taken in turns: ours, theirs, ours, theirs. A shared machine changes its speed all the time, so the
ratio is the median of the ratios of neighbours. A ratio is our time (or memory) over theirs: below 1, ours is less.

What is measured has the definitions of `internvl bench`. Theirs gets more of a chance: a run of each shape that does
not count, pixels and ids that are already there, and for OpenVINO the number of tiles at a time that is fastest here.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import sys
import tempfile

import alternatives
import ours as ours_module

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Measure:
    name: str  # in --measures, and what a worker is asked for
    title: str
    line: str  # in the output of internvl bench
    ours: dict  # flags of internvl bench
    theirs: dict  # what a worker is told
    repeat: int = 1
    sequences: int = 1
    picture: bool = False


def measures(quick):
    """Everything that takes a time of its own; `quick` is for trying the scripts."""
    tiles, prompts, context, tokens = (1, (128, 512), 128, 8) if quick else (13, (512, 3392), 512, 32)
    found = [Measure("vision", f"vision, {tiles} tile{'s' * (tiles > 1)}", "vision", {"--tiles": tiles}, {"tiles": tiles})]
    for prompt in prompts:
        found.append(Measure("prefill", f"prefill, {prompt} tokens", "prefill", {"--prompt-tokens": prompt},
                             {"tokens": prompt}, repeat=3 if prompt <= 512 else 1))
    for together in (1, 8):
        title = f"decode after {context}" + (f", {together} together" if together > 1 else "")
        found.append(Measure("decode", title, "decode",
                             {"--context": context, "--tokens": tokens, "--sequences": together},
                             {"context": context, "sequences": together, "tokens": tokens}, sequences=together))
    return found


@dataclasses.dataclass
class Row:
    measure: str
    alternative: str
    variant: str
    our_quant: str
    ours: list
    theirs: list
    unit: str = "ms"
    sequences: int = 0  # of a decode: to show tokens a second

    def ratios(self):
        return [a / b for a, b in zip(self.ours, self.theirs)]


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Comparison:
    """One alternative in one variant, against ours with the same number of bits."""

    def __init__(self, arguments, alternative, variant):
        self._arguments, self._alternative, self._variant = arguments, alternative, variant
        self._ours = ours_module.Ours(
            arguments.internvl, arguments.model, arguments.image, arguments.threads, alternative.variants[variant],
            arguments.max_num)
        self.rows, self.notes = [], []

    def run(self, wanted):
        name = f"{self._alternative.name} {self._variant}"
        say(f"{name}: preparing")
        try:
            options = {**self._alternative.prepare(self._variant), "settings": self._arguments.set}
            worker = self._alternative.start(options)
            try:
                for measure in wanted:
                    self._in_turns(worker, measure)
                options.update(worker.ask("state")["state"])
                self.notes.append(f"{name}: {worker.ask('about')['about']}")
            finally:
                worker.close()
            if "ready" in self._arguments.measures:
                self._ready_and_memory(options)
        except alternatives.Failure as failure:
            self.notes.append(f"{name}: {failure}")
            say(f"{name}: {failure}")

    def _row(self, title, **fields):
        row = Row(title, self._alternative.name, self._variant, self._ours.quant, [], [], **fields)
        self.rows.append(row)
        return row

    def _in_turns(self, worker, measure):
        row = self._row(measure.title, sequences=measure.sequences if measure.name == "decode" else 0)
        # Prepares kernels for these shapes, does not count.
        if measure.picture:
            worker.ask("prefill", tokens=measure.theirs["tokens"])
        else:
            worker.ask(measure.name, **measure.theirs)
        for _ in range(self._arguments.runs):
            row.ours.append(self._ours.measure(measure, measure.repeat))
            row.theirs.append(statistics.median(worker.ask(measure.name, repeat=measure.repeat, **measure.theirs)["ms"]))
            say(f"{row.alternative} {row.variant}, {row.measure}: ours {row.ours[-1]:.1f}, theirs {row.theirs[-1]:.1f} ms")

    def _ready_and_memory(self, options):
        ready = Measure("ready", "start to ready", "load", {}, {})
        row = self._row(ready.title)
        memory = self._row("peak memory, one picture", unit="MB") if self._arguments.image else None
        for turn in range(self._arguments.runs):
            row.ours.append(self._ours.measure(ready, 1))
            worker = self._alternative.start(options)
            try:
                row.theirs.append(worker.ready_ms)
                if memory and turn == 0:
                    worker.ask("first_token", **self._arguments.prompt)
                    memory.theirs.append(worker.ask("memory")["mb"])
                    memory.ours.append(self._ours.peak_mb())
            finally:
                worker.close()
            say(f"{row.alternative} {row.variant}, {row.measure}: ours {row.ours[-1]:.1f}, theirs {row.theirs[-1]:.1f} ms")


def shown(values, row):
    middle = statistics.median(values)
    if row.unit == "MB":
        return f"{middle:,.0f} MB"
    if row.sequences:
        return f"{middle:.1f} ms ({row.sequences * 1e3 / middle:.1f}/s)"
    return f"{middle / 1e3:.2f} s" if middle >= 1e4 else f"{middle:,.0f} ms"


def table(rows):
    """Markdown; rows of a measure stand together."""
    lines = ["| measure | ours | | theirs | | ours / theirs |", "| --- | --- | --- | --- | --- | --- |"]
    order = list(dict.fromkeys(row.measure for row in rows))
    for row in sorted(rows, key=lambda row: order.index(row.measure)):
        if not row.theirs:
            continue
        ratios = row.ratios()
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        kind = {"none": "bf16"}.get(row.our_quant, row.our_quant)
        lines.append(f"| {row.measure} | {kind} | {shown(row.ours, row)} | {row.alternative} {row.variant} |"
                     f" {shown(row.theirs, row)} | **{statistics.median(ratios):.2f}**{spread} |")
    return "\n".join(lines)


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def work_folder(model):
    """A folder for converted files of this very model."""
    parts = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sorted(model.glob("*.safetensors"))]
    digest = hashlib.sha256("\n".join([str(model.resolve()), *parts]).encode()).hexdigest()[:12]
    return pathlib.Path(tempfile.gettempdir()) / "internvl-compare" / f"{model.resolve().name}-{digest}"


def find_program():
    built = ROOT / "build" / "internvl"
    return str(built) if built.exists() else shutil.which("internvl")


def parse():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = ("vision", "prefill", "decode", "first_token", "ready")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="a folder as released")
    parser.add_argument("-i", "--image", type=pathlib.Path, help="for first token and memory")
    parser.add_argument("--only", default=",".join(alternatives.ALL), help="alternatives (default: %(default)s)")
    parser.add_argument("--variants", default="", help="e.g. fp16,int8,int4,int8-full (default: the usual ones)")
    parser.add_argument("--measures", default=",".join(names), help="default: %(default)s (ready: start and memory)")
    parser.add_argument("--runs", type=int, default=3, help="turns (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=cores, help="default: %(default)s")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="interpreter of an alternative")
    parser.add_argument("--internvl", default=find_program(), help="our program (default: %(default)s)")
    parser.add_argument("--work", type=pathlib.Path, help="where converted models are kept")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of OpenVINO")
    parser.add_argument("--stateful", action="store_true", help="OpenVINO with attention as in optimum-intel, not GenAI")
    parser.add_argument("--json", type=pathlib.Path, help="write every single time there")
    parser.add_argument("--quick", action="store_true", help="one tile and short prompts, to try the scripts")
    arguments = parser.parse_args()
    if not arguments.internvl:
        parser.error("no internvl program: build it, or say --internvl PATH")
    for word in ("only", "variants", "measures"):
        setattr(arguments, word, [part for part in getattr(arguments, word).split(",") if part])
    for word, known in (("only", alternatives.ALL), ("measures", names)):
        if unknown := set(getattr(arguments, word)) - set(known):
            parser.error(f"--{word}: expected some of {','.join(known)}, found {','.join(unknown)}")
    arguments.max_num = 1 if arguments.quick else 12
    for word in ("python", "set"):
        setattr(arguments, word, dict(part.split("=", 1) for part in getattr(arguments, word)))
    return arguments


def main():
    arguments = parse()
    work = arguments.work or work_folder(arguments.model)
    work.mkdir(parents=True, exist_ok=True)
    wanted = [measure for measure in measures(arguments.quick) if measure.name in arguments.measures]
    if arguments.image:
        plain = ours_module.Ours(arguments.internvl, arguments.model, arguments.image, arguments.threads, "none",
                                 arguments.max_num)
        arguments.prompt = plain.prompt_of()
        if "first_token" in arguments.measures:
            wanted.append(Measure("first_token", "first token, {tokens} tokens".format(**arguments.prompt),
                                  "first_token", {}, arguments.prompt, picture=True))
    rows, notes, load = [], [], os.getloadavg()[0]
    with open(work / "log.txt", "w") as log:
        for name in arguments.only:
            python = os.path.expanduser(arguments.python.get(name, sys.executable))
            alternative = alternatives.ALL[name](python, arguments.model, work, arguments.threads)
            alternative.log, alternative.stateful = log, arguments.stateful
            if missing := alternative.missing():
                notes.append(f"{name}: not installed ({missing})")
                continue
            for variant in arguments.variants or alternative.usual:
                if variant in alternative.variants:
                    comparison = Comparison(arguments, alternative, variant)
                    comparison.run(wanted)
                    rows += comparison.rows
                    notes += comparison.notes
    print(f"{processor()}, {arguments.threads} threads, load {load:.1f} before; {arguments.model.resolve().name};"
          f" medians of {arguments.runs} turns\n")
    print(table(rows))
    print("\n" + "\n".join(f"- {note}" for note in notes))
    if arguments.json:
        arguments.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
