#!/usr/bin/env python3
"""Measures this machine and writes bench/results/NAME.json and NAME.svg (bars: share of the limit).

usage: bench/record.py NAME MODEL PICTURE [--build build] [--repeat 5]

Runs `internvl bench` in bf16, int8 and int4 and `ops_bench`. Shares are whole percents of what the machine
measured around each run, so a slower kernel shows as a diff; times are of this machine and hour.
"""
import argparse
import json
import pathlib
import subprocess

KINDS = {"bf16": [], "int8": ["--quant", "int8"], "int4": ["--quant", "int4"]}
COLOURS = {"bf16": "#3b6ea5", "int8": "#e08e3c", "int4": "#5a9e6f"}


def lines_of(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def stage(line):
    """(name, what is kept of it) for one line of `internvl bench --json`."""
    name = line["name"]
    kept = {"ms": line["ms"] if isinstance(line["ms"], dict) else round(line["ms"], 2)}
    share = line.get("of_peak", line.get("of_bandwidth"))
    if share is not None:
        kept["percent"] = round(100 * share)
    for key in ("tokens_per_s", "second_question_ms", "rss_mb"):
        if key in line:
            kept[key] = round(line[key], 1)
    count = line.get("tiles") or line.get("batch") or line.get("tokens")
    return (f"{name} {count}" if count else name), kept


def stages(binary, model, picture, repeat):
    """Every stage by kind of weights: {"vision 13": {"bf16": {...}, ...}, ...}."""
    table = {}
    for kind, flags in KINDS.items():
        command = [binary, "bench", model, "-i", picture, "--json", "--dtype", "bf16", "--repeat", str(repeat), *flags]
        for line in map(json.loads, lines_of(command)):
            name, kept = stage(line)
            table.setdefault(name, {})[kind] = kept
    return table


def kernels(binary):
    """{"gemm/BF16xBF16/...": {"of_peak": 90}, ...}: percents, medians of three runs."""
    out = lines_of([binary, "--benchmark_format=json", "--benchmark_repetitions=3", "--benchmark_min_time=0.2"])
    table = {}
    for run in json.loads("\n".join(out))["benchmarks"]:
        if run.get("aggregate_name") != "median":
            continue
        shares = {key: round(100 * run[key]) for key in ("of_peak", "of_reads") if key in run}
        if "/1x" in run["name"] or "/1q" in run["name"] or "of_peak" not in shares:
            shares.pop("of_peak", None)
        else:
            shares.pop("of_reads")
        table[run["name"].split("/real_time")[0]] = shares
    return table


def picture_of(table):
    """The stages that have a share, as bars."""
    rows = [(name, kinds) for name, kinds in table.items() if any("percent" in k for k in kinds.values())]
    bar, gap, left, scale = 14, 16, 150, 4
    height = 50 + len(rows) * (len(KINDS) * bar + gap)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + 100 * scale + 90}" height="{height}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>']
    for percent in range(0, 101, 25):
        x = left + percent * scale
        out.append(f'<line x1="{x}" x2="{x}" y1="22" y2="{height - 20}" stroke="#ccc"/>'
                   f'<text x="{x}" y="16" text-anchor="middle" fill="#555">{percent} %</text>')
    y = 30
    for name, kinds in rows:
        out.append(f'<text x="{left - 8}" y="{y + bar * 1.8:.0f}" text-anchor="end">{name}</text>')
        for kind, kept in kinds.items():
            share = kept["percent"]
            out.append(f'<rect x="{left}" y="{y}" width="{min(share, 115) * scale}" height="{bar - 2}" '
                       f'fill="{COLOURS[kind]}"/><text x="{left + min(share, 115) * scale + 4}" y="{y + bar - 4}">'
                       f'{share} % {kind}</text>')
            y += bar
        y += gap
    return "\n".join(out) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--build", default="build")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    results = pathlib.Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    version = lines_of([f"{args.build}/internvl", "--version"])
    table = stages(f"{args.build}/internvl", args.model, args.picture, args.repeat)
    (results / f"{args.name}.svg").write_text(picture_of(table))
    record = {"version": version, "stages": table, "kernels": kernels(f"{args.build}/bench/ops_bench")}
    (results / f"{args.name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
