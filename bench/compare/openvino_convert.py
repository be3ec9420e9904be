"""Writes the OpenVINO graphs of a checkpoint in the precisions that a user of its exporter gets, and one beyond.

    python openvino_convert.py MODEL_DIR OUT_DIR [fp16 int8 int4 int8-full]

A line of JSON for each says where its parts are.

| variant   | vision tower, projector             | language model                        | embedding |
| --------- | ----------------------------------- | ------------------------------------- | --------- |
| fp16      | fp16                                | fp16                                  | fp16      |
| int8      | INT8_ASYM weights                   | INT8_ASYM weights                     | INT8_ASYM |
| int4      | INT8_ASYM weights                   | INT4_ASYM groups of 128, head INT8    | INT8_ASYM |
| int8-full | weights and activations (nncf.quantize) | as int8                           | INT8_ASYM |

The first three are what `optimum-cli export openvino --weight-format ...` makes by default. The last is not: its
activations have fixed ranges found on a sample, here random tiles, so it shows speed and nothing about accuracy.
"""

import json
import pathlib
import sys

import numpy as np
import openvino as ov

import checkpoint as folder
import openvino_graph as graph

INT4_GROUP = 128


def part_file(out, part, kind):
    return pathlib.Path(out) / f"{part}_{kind}.xml"


def kinds(variant):
    """Which precision of each part a variant consists of."""
    return {
        "fp16": {"vision": "fp16", "language": "fp16", "embedding": "fp16"},
        "int8": {"vision": "int8", "language": "int8", "embedding": "int8"},
        "int4": {"vision": "int8", "language": "int4", "embedding": "int8"},
        "int8-full": {"vision": "full", "language": "int8", "embedding": "int8"},
    }[variant]


def build(checkpoint, sizes, part):
    if part == "vision":
        return graph.vision_graph(checkpoint, sizes, naive=True)
    if part == "language":
        return graph.language_graph(checkpoint, sizes)
    return graph.embedding_graph(checkpoint, sizes)


def compress(path, kind):
    """The fp16 graph at `path` with its weights in fewer bits."""
    import nncf

    model = ov.Core().read_model(path)
    if kind == "int8":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    if kind == "int4":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, ratio=1.0, group_size=INT4_GROUP)
    side = model.input(0).get_partial_shape()[2].get_length()
    sample = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    return nncf.quantize(model, nncf.Dataset([sample]), model_type=nncf.ModelType.TRANSFORMER, subset_size=1)


def save(model, path):
    """Under another name first: an interrupted run leaves nothing that looks finished."""
    part = path.with_name(f"{path.stem}.part.xml")
    ov.save_model(model, part, compress_to_fp16=True)
    part.with_suffix(".bin").replace(path.with_suffix(".bin"))
    part.replace(path)


def convert(model_dir, out, variant, vision_layers=None, language_layers=None):
    """Makes what is missing of a variant; returns its files by part."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = sizes = None
    for part, kind in kinds(variant).items():
        base = part_file(out, part, "fp16")
        if not base.exists():
            checkpoint = checkpoint or folder.Checkpoint(model_dir)
            sizes = sizes or folder.sizes(checkpoint.config, vision_layers, language_layers)
            save(build(checkpoint, sizes, part), base)
        path = part_file(out, part, kind)
        if not path.exists():
            save(compress(base, kind), path)
    return {part: part_file(out, part, kind) for part, kind in kinds(variant).items()}


if __name__ == "__main__":
    for name in sys.argv[3:] or ["fp16", "int8", "int4"]:
        print(json.dumps({part: str(path) for part, path in convert(sys.argv[1], sys.argv[2], name).items()}))
