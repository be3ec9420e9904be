#!/usr/bin/env python3
"""Checks that the OpenVINO graphs compute what internvl computes, in fp32: otherwise their times mean nothing.

    python bench/compare/check_openvino.py tests/golden/checkpoints/tiny-1b picture.png

`internvl trace` writes the stages of one forward pass; the graphs get the same tiles and ids. The prompt passes the
language model at once, and again as a beginning and single tokens. Wants openvino, numpy and pillow, and a small model.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import openvino as ov
from PIL import Image

import checkpoint as folder
import openvino_graph as graph
from openvino_language import KINDS, paged

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
MEAN, DEVIATION = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
LARGEST = {"vision/projected": 1e-4, "text/embeddings": 1e-4, "text/logits": 1e-3}  # as tests/golden has it


def trace(program, model, picture, out):
    """The stages that internvl writes, and the ids of its prompt."""
    path = out / "trace.safetensors"
    subprocess.run([program, "trace", model, "-i", picture, "-p", "What is this?", "--dtype", "fp32", "--out", path], check=True)
    stages = folder.Tensors([path])
    return stages, json.loads(stages.metadata["ids"])


def pixels(program, picture, out):
    """The tiles that internvl cuts, normalised: [T, 3, side, side]."""
    subprocess.run([program, "tiles", picture, "--out", out], check=True, stdout=subprocess.DEVNULL)
    tiles = [np.asarray(Image.open(path), np.float32) for path in sorted(out.glob("*_[0-9][0-9].png"))]
    return np.stack([((tile / 255 - MEAN) / DEVIATION).transpose(2, 0, 1) for tile in tiles]).astype(np.float32)


def logits(language, embeds, cuts):
    """Of the last row of each piece of a prompt; the pieces end at `cuts`."""
    found = [language.begin(embeds[:, : cuts[0]]).copy()]
    found += [language.step(embeds[:, begin:end], begin).copy() for begin, end in zip(cuts, cuts[1:])]
    return np.concatenate(found)


def last_rows(stage, found):
    """As many rows of a stage, from its end, as were found."""
    return stage.reshape(-1, stage.shape[-1])[-(found.size // found.shape[-1]) :]


def results(core, checkpoint, tiles, ids, context_id):
    """Yields a stage's name, how it was computed, and what the graphs say."""
    sizes = folder.sizes(checkpoint.config)
    for naive in (False, True):
        rows = core.compile_model(graph.vision_graph(checkpoint, sizes, naive), "CPU", EXACT)([tiles])[0]
        yield "vision/projected", "attention in parts" if naive else "attention as one node", rows
    embeds = core.compile_model(graph.embedding_graph(checkpoint, sizes), "CPU", EXACT)([np.array([ids])])[0].copy()
    embeds[0, np.array(ids) == context_id] = rows.reshape(-1, rows.shape[2])
    yield "text/embeddings", "", embeds[0]
    for name, kind in KINDS.items():
        model = graph.language_graph(checkpoint, sizes)
        language = kind(core.compile_model(paged(model) if name == "paged" else model, "CPU", EXACT))
        yield "text/logits", f"{name}, at once", logits(language, embeds, [len(ids)])
        yield "text/logits", f"{name}, in steps", logits(language, embeds, range(len(ids) - 8, len(ids) + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--internvl", default=str(ROOT / "build" / "internvl"))
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        out = pathlib.Path(name)
        stages, ids = trace(arguments.internvl, arguments.model, arguments.picture, out)
        tiles = pixels(arguments.internvl, arguments.picture, out)
        context_id = max(set(ids), key=ids.count)
        for stage, how, found in results(ov.Core(), folder.Checkpoint(arguments.model), tiles, ids, context_id):
            distance = np.abs(found.reshape(-1, found.shape[-1]) - last_rows(stages[stage], found)).max()
            fine = distance <= LARGEST[stage]
            bad += not fine
            print(f"{stage:18} {how:22} largest difference {distance:.1e} {'' if fine else 'TOO LARGE'}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
