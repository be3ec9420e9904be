"""transformers' own InternVL class as a worker of the comparison (see worker.py), in bf16, on the released folder.

The class knows the converted (-hf) layout only; the released names and the joint qkv tensors are translated here, so
the folder needs no Python code of its own. Rows and logits of tiny-1b in fp32 were found within 1e-4 of ours.
"""

import pathlib
import re

import torch
import transformers
from safetensors.torch import load_file

import checkpoint as folder
import worker

VISION = "model.vision_tower"
RENAMED = (
    (r"^vision_model\.embeddings\.class_embedding$", f"{VISION}.embeddings.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding$", f"{VISION}.embeddings.position_embeddings"),
    (r"^vision_model\.embeddings\.patch_embedding\.", f"{VISION}.embeddings.patch_embeddings.projection."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.ls", rf"{VISION}.encoder.layer.\1.lambda_"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.norm1\.", rf"{VISION}.encoder.layer.\1.layernorm_before."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.norm2\.", rf"{VISION}.encoder.layer.\1.layernorm_after."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.attn\.proj\.", rf"{VISION}.encoder.layer.\1.attention.projection_layer."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.", rf"{VISION}.encoder.layer.\1."),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
)


def translated(name, tensor):
    """The entries of the class's state that one tensor of the folder becomes."""
    joint = re.match(r"^vision_model\.encoder\.layers\.(\d+)\.attn\.qkv\.(weight|bias)$", name)
    if joint:
        layer, kind = joint.groups()
        parts = zip("qkv", tensor.chunk(3))
        return {f"{VISION}.encoder.layer.{layer}.attention.{part}_proj.{kind}": piece for part, piece in parts}
    for pattern, replacement in RENAMED:
        if re.match(pattern, name):
            return {re.sub(pattern, replacement, name): tensor}
    raise SystemExit(f"no place for {name}")


def configuration(config, tied):
    v = config["vision_config"]
    vision = {key: v[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                                      "layer_norm_eps", "hidden_act", "norm_type")}
    vision.update(image_size=[v["image_size"]] * 2, patch_size=[v["patch_size"]] * 2, attention_bias=v["qkv_bias"],
                  use_qk_norm=v["qk_normalization"])
    text = {key: value for key, value in config["llm_config"].items() if key not in ("torch_dtype", "_name_or_path")}
    text["tie_word_embeddings"] = tied
    return transformers.InternVLConfig(vision_config=vision, text_config=text, tie_word_embeddings=tied)


def load(model_dir, dtype=torch.bfloat16):
    """The class with the folder's tensors, mapped from the files where nothing has to be converted."""
    checkpoint = folder.Checkpoint(model_dir)
    folder.sizes(checkpoint.config)  # refuses what is not known
    state = {}
    for path in sorted(pathlib.Path(model_dir).glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            state.update(translated(name, tensor.to(dtype)))
    tied = "lm_head.weight" not in state
    with torch.device("meta"):
        model = transformers.InternVLForConditionalGeneration(configuration(checkpoint.config, tied))
    model.load_state_dict(state, strict=not tied, assign=True)
    if tied:
        model.tie_weights()
    rotary = model.model.language_model.rotary_emb
    model.model.language_model.rotary_emb = type(rotary)(config=rotary.config)
    return model.eval()


class Transformers:
    def __init__(self, options):
        """options: model (folder), threads."""
        torch.set_num_threads(options["threads"])
        torch.set_grad_enabled(False)
        self._model = load(options["model"])
        self._side = self._model.config.vision_config.image_size[0]

    def about(self):
        attention = self._model.config._attn_implementation
        return f"transformers {transformers.__version__}, torch {torch.__version__}, bf16, attention {attention}, one tile at a time"

    def state(self):
        return {}

    def _pixels(self, tiles):
        return torch.randn(tiles, 3, self._side, self._side, dtype=torch.bfloat16)

    def _encode(self, pixels):
        found = [self._model.model.get_image_features(tile[None]).pooler_output for tile in pixels]
        return torch.cat([rows if torch.is_tensor(rows) else torch.cat(list(rows)) for rows in found])

    def _prompt(self, sequences, tokens):
        return (torch.arange(sequences * tokens) * 31 % 500).reshape(sequences, tokens)

    def _embed(self, ids):
        return self._model.get_input_embeddings()(ids)

    def _step(self, embeds, cache):
        """Runs rows behind those of the cache; the ids that greedy search would take."""
        found = self._model.model.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return self._model.lm_head(found.last_hidden_state[:, -1]).argmax(-1)

    def vision(self, tiles):
        pixels = self._pixels(tiles)
        return worker.timed(lambda: self._encode(pixels))

    def prefill(self, tokens):
        ids = self._prompt(1, tokens)
        return worker.timed(lambda: self._step(self._embed(ids), transformers.DynamicCache()))

    def decode(self, context, sequences, tokens):
        cache = transformers.DynamicCache()
        next_ids = [self._step(self._embed(self._prompt(sequences, context)), cache)]

        def run(passes):
            for _ in range(passes):
                next_ids.append(self._step(self._embed(next_ids[-1][:, None]), cache))

        run(2)
        return worker.timed(lambda: run(tokens)) / tokens

    def first_token(self, tiles, tokens):
        pixels, ids = self._pixels(tiles), self._prompt(1, tokens)

        def run():
            rows = self._encode(pixels).reshape(-1, self._model.config.text_config.hidden_size)
            embeds = self._embed(ids).clone()
            embeds[0, 16 : 16 + len(rows)] = rows
            self._step(embeds, transformers.DynamicCache())

        return worker.timed(run)


if __name__ == "__main__":
    worker.serve(Transformers)
