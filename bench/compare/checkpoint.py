"""Reads a released InternVL2 folder with numpy alone: configuration, and tensors by name as float32."""

import json
import mmap
import pathlib
import struct

import numpy as np

NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Tensors:
    """The tensors of safetensors files, converted to float32 one at a time; `metadata` of the last file that has some."""

    def __init__(self, paths):
        self._places, self.metadata = {}, {}
        for path in paths:
            self._index(path)

    def _index(self, path):
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack("<Q", data[:8])
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                self.metadata = entry
            else:
                self._places[name] = (data, 8 + length, entry)

    def names(self):
        return list(self._places)

    def __contains__(self, name):
        return name in self._places

    def __getitem__(self, name):
        data, base, entry = self._places[name]
        first, last = entry["data_offsets"]
        kind = NUMPY_TYPES[entry["dtype"]]
        flat = np.frombuffer(data, kind, (last - first) // np.dtype(kind).itemsize, base + first)
        if entry["dtype"] == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.astype(np.float32).reshape(entry["shape"])


class Checkpoint(Tensors):
    """A model folder: its configuration and the tensors of all its safetensors files."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config = json.loads((self.folder / "config.json").read_text())
        super().__init__(sorted(self.folder.glob("*.safetensors")))
        if not self._places:
            raise SystemExit(f"{folder}: no safetensors files")


def sizes(config, vision_layers=None, language_layers=None):
    """The numbers that the graphs need, as one flat dictionary; the layer counts may be cut for trials."""
    v, t = config["vision_config"], config["llm_config"]
    if t["model_type"] not in ("qwen2", "llama") or v.get("norm_type") != "layer_norm" or v.get("qk_normalization"):
        raise SystemExit(
            f"the comparison knows InternViT-300M with Qwen2 or Llama, not {t['model_type']} with {v.get('norm_type')}"
        )
    if config.get("select_layer", -1) != -1 or config.get("ps_version") != "v2" or t.get("rope_scaling"):
        raise SystemExit("the comparison knows select_layer -1, ps_version v2 and plain rotary tables only")
    return {
        "image": v["image_size"], "patch": v["patch_size"], "vision": v["hidden_size"],
        "vision_heads": v["num_attention_heads"], "vision_eps": v["layer_norm_eps"],
        "vision_layers": vision_layers or v["num_hidden_layers"],
        "hidden": t["hidden_size"], "heads": t["num_attention_heads"], "kv_heads": t["num_key_value_heads"],
        "head_dim": t["hidden_size"] // t["num_attention_heads"], "eps": t["rms_norm_eps"],
        "theta": t["rope_theta"], "vocab": t["vocab_size"],
        "layers": language_layers or t["num_hidden_layers"],
    }
