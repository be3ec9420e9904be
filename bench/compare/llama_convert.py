"""Writes the GGUF files of a checkpoint that llama.cpp reads: language model and vision tower, each in one format.

    python llama_convert.py MODEL_DIR OUT_DIR bf16|q8_0|q4_0

A line of JSON says where both are. Names and metadata are those of llama.cpp's own converter, which wants torch; formats
smaller than bf16 are made by llama.cpp (language) and by its package `gguf` (vision tower, which stays q8_0 under q4_0).
"""

import json
import pathlib
import re
import sys

import gguf
import numpy as np

import checkpoint as folder

VISION = "vision_model"
PROJECTOR = {"mlp1.0": "mm.model.mlp.0", "mlp1.1": "mm.model.mlp.1", "mlp1.3": "mm.model.mlp.3"}
BLOCK = {"norm1": "ln1", "norm2": "ln2", "attn.proj": "attn_out", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}
Kind = gguf.GGMLQuantizationType


def add(writer, name, values, kind):
    """A matrix in `kind`, anything else and what cannot be cut into blocks in fp32."""
    if values.ndim != 2 or "position_embd" in name or values.shape[-1] % 32:
        kind = Kind.F32
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)


def vision_tensors(tensors, layers):
    """(name, values) of the tower and the projector."""
    embeddings = f"{VISION}.embeddings."
    yield "v.class_embd", tensors[embeddings + "class_embedding"].reshape(-1)
    yield "v.patch_embd.weight", tensors[embeddings + "patch_embedding.weight"]
    yield "v.patch_embd.bias", tensors[embeddings + "patch_embedding.bias"]
    yield "v.position_embd.weight", tensors[embeddings + "position_embedding"][0]
    for i in range(layers):
        theirs, to = f"{VISION}.encoder.layers.{i}.", f"v.blk.{i}."
        for scale in ("ls1", "ls2"):
            yield f"{to}{scale}.weight", tensors[theirs + scale]
        for end in ("weight", "bias"):
            for part, values in zip("qkv", np.split(tensors[f"{theirs}attn.qkv.{end}"], 3)):
                yield f"{to}attn_{part}.{end}", values
            for name, place in BLOCK.items():
                yield f"{to}{place}.{end}", tensors[f"{theirs}{name}.{end}"]
    for name, place in PROJECTOR.items():
        for end in ("weight", "bias"):
            yield f"{place}.{end}", tensors[f"{name}.{end}"]


def write_vision(checkpoint, path, kind):
    config = checkpoint.config
    v, n = config["vision_config"], folder.sizes(config)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.INTERNVL)
    writer.add_vision_projection_dim(n["hidden"])
    writer.add_vision_image_size(n["image"])
    writer.add_vision_patch_size(n["patch"])
    writer.add_vision_embedding_length(n["vision"])
    writer.add_vision_feed_forward_length(v["intermediate_size"])
    writer.add_vision_block_count(n["vision_layers"])
    writer.add_vision_head_count(n["vision_heads"])
    writer.add_vision_attention_layernorm_eps(n["vision_eps"])
    writer.add_vision_image_mean([0.485, 0.456, 0.406])
    writer.add_vision_image_std([0.229, 0.224, 0.225])
    writer.add_vision_use_gelu(True)
    writer.add_vision_projector_scale_factor(2)
    for name, values in vision_tensors(checkpoint, n["vision_layers"]):
        add(writer, name, values, kind)
    finish(writer)


def language_tensors(checkpoint, layers):
    """(name, values) of the language model, by the package's own table of names."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, layers)
    for name in checkpoint.names():
        if name.startswith("language_model."):
            plain = re.sub(r"^language_model\.", "", name)
            yield names.get_name(plain, try_suffixes=(".weight", ".bias")), checkpoint[name]


def add_tokenizer(writer, model, vocab):
    tokens = {place: text for text, place in json.loads((model / "vocab.json").read_text()).items()}
    added = json.loads((model / "added_tokens.json").read_text())
    tokens.update({place: text for text, place in added.items()})
    kinds = [gguf.TokenType.CONTROL if tokens.get(i) in added else
             gguf.TokenType.NORMAL if i in tokens else gguf.TokenType.UNUSED for i in range(vocab)]
    lines = (model / "merges.txt").read_text().splitlines()
    # llama.cpp wants one at least, which the tokenizer of `internvl synth` has not; this one never applies.
    merges = [line for line in lines if line and not line.startswith("#version")] or ["\u0100 \u0101"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(vocab)])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(added["<|im_end|>"])


def write_language(checkpoint, path, kind):
    config, n = checkpoint.config["llm_config"], folder.sizes(checkpoint.config)
    if config["model_type"] != "qwen2":
        raise SystemExit(f"the comparison with llama.cpp knows Qwen2, not {config['model_type']}")
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(n["hidden"])
    writer.add_block_count(n["layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(n["heads"])
    writer.add_head_count_kv(n["kv_heads"])
    writer.add_layer_norm_rms_eps(n["eps"])
    writer.add_rope_freq_base(n["theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    add_tokenizer(writer, checkpoint.folder, n["vocab"])
    for name, values in language_tensors(checkpoint, n["layers"]):
        add(writer, name, values, kind)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source, path, variant):
    import llama_cpp  # loads the engine, which the rest does not need

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[variant]
    if llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), parameters) != 0:
        raise SystemExit(f"llama.cpp could not quantise {source.name} to {variant}")


def made(path, make):
    """The file, made under another name first, so that half a file is never taken for a whole one."""
    if not path.exists():
        part = path.with_suffix(".part")
        make(part)
        part.rename(path)
    return path


def main():
    model, out, variant = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    checkpoint = folder.Checkpoint(model)
    language = made(out / "language-bf16.gguf", lambda path: write_language(checkpoint, path, Kind.BF16))
    if variant != "bf16":
        plain = language
        language = made(out / f"language-{variant}.gguf", lambda path: quantise(plain, path, variant))
    name, kind = ("vision-bf16", Kind.BF16) if variant == "bf16" else ("vision-q8_0", Kind.Q8_0)
    vision = made(out / f"{name}.gguf", lambda path: write_vision(checkpoint, path, kind))
    print(json.dumps({"language": str(language), "vision": str(vision)}))


if __name__ == "__main__":
    main()
