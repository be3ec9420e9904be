#!/usr/bin/env python3
"""Runs the original Python code once and writes what it computes, for `internvl verify MODEL EXPECTED`.

    pip install "transformers==4.37.2" torch torchvision pillow safetensors timm einops
    scripts/reference_trace.py --model path/to/InternVL2-1B --image photo.jpg --prompt "What is this?" --out expected
    internvl verify path/to/InternVL2-1B expected

MODEL is the released folder with its own .py files (they are run: trust_remote_code). The out folder is
self-contained: pictures are copied into it, so that it can be moved to another machine.
"""

import argparse
import json
import pathlib
import shutil

import torch
import torchvision.transforms as T
import transformers
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import InterpolationMode

MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 448


def tiles_of(image: Image.Image, max_num: int) -> list:
    """The model card's dynamic_preprocess: the grid nearest in shape, larger ones where the picture is large enough."""
    width, height = image.size
    shape = width / height
    grids = {(i, j) for n in range(1, max_num + 1) for i in range(1, n + 1) for j in range(1, n + 1) if 1 <= i * j <= max_num}
    best, best_distance = (1, 1), float("inf")
    for grid in sorted(grids, key=lambda g: g[0] * g[1]):
        distance = abs(shape - grid[0] / grid[1])
        larger = distance == best_distance and width * height > 0.5 * SIDE * SIDE * grid[0] * grid[1]
        if distance < best_distance or larger:
            best, best_distance = grid, distance
    columns, rows = best
    whole = image.resize((SIDE * columns, SIDE * rows))
    cut = [whole.crop((x * SIDE, y * SIDE, (x + 1) * SIDE, (y + 1) * SIDE)) for y in range(rows) for x in range(columns)]
    return cut + [image.resize((SIDE, SIDE))] if len(cut) != 1 else cut


def load_pixels(path: str, max_num: int) -> torch.Tensor:
    transform = T.Compose([
        T.Lambda(lambda image: image.convert("RGB")),
        T.Resize((SIDE, SIDE), interpolation=InterpolationMode.BICUBIC),
        T.ToTensor(),
        T.Normalize(MEAN, STD),
    ])
    return torch.stack([transform(tile) for tile in tiles_of(Image.open(path).convert("RGB"), max_num)])


class RecordingTokenizer:
    """Remembers the prompt that chat() builds."""

    def __init__(self, tokenizer):
        self._tokenizer, self.prompt = tokenizer, None

    def __call__(self, text, *args, **kwargs):
        self.prompt = text
        return self._tokenizer(text, *args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def ask(model, tokenizer, pixels, tiles, question, max_new_tokens):
    """chat() itself, with the prompt string, its ids and the generated ids seen on the way."""
    recorder, seen = RecordingTokenizer(tokenizer), {}
    original = model.generate

    def generate(*args, **kwargs):
        seen["ids"] = kwargs["input_ids"][0].tolist()
        seen["output"] = original(*args, **kwargs)
        return seen["output"]

    model.generate = generate
    try:
        config = dict(max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
        text = model.chat(recorder, pixels, question, config, num_patches_list=tiles or None)
    finally:
        model.generate = original
    generated = seen["output"][0].tolist()
    # Up to 4.37 a sequence made from embeddings begins with a start token (spec 6.4).
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if version < (4, 38):
        generated = generated[1:]
    return recorder.prompt, seen["ids"], generated, text


def stages(model, ids, pixels, last_logits):
    """One forward pass with every stage caught by hooks; names are those of `internvl trace`."""
    found, hooks = {}, []

    def keep(name):
        def hook(_module, _inputs, output):
            found[name] = (output[0] if isinstance(output, tuple) else output).detach()
        return hook

    def keep_input(name):
        def hook(_module, inputs):
            found[name] = inputs[0].detach()
        return hook

    vision, language = model.vision_model, model.language_model
    if pixels is not None:
        hooks.append(vision.embeddings.register_forward_hook(keep("vision/embeddings")))
        for n, layer in enumerate(vision.encoder.layers):
            hooks.append(layer.register_forward_hook(keep(f"vision/block{n}")))
        hooks.append(model.mlp1.register_forward_pre_hook(keep_input("vision/shuffled")))
        hooks.append(model.mlp1.register_forward_hook(keep("vision/projected")))
    for n, layer in enumerate(language.model.layers):
        hooks.append(layer.register_forward_hook(keep(f"text/after_layer{n}")))
    hooks.append(language.model.norm.register_forward_hook(keep("text/after_norm")))
    try:
        tokens = torch.tensor([ids])
        embeddings = language.get_input_embeddings()(tokens).clone()
        if pixels is not None:
            rows = model.extract_feature(pixels)
            places = tokens[0] == model.img_context_token_id
            embeddings[0, places] = rows.reshape(-1, rows.shape[-1]).to(embeddings.dtype)
        found["text/embeddings"] = embeddings
        output = language(inputs_embeds=embeddings, use_cache=True, return_dict=True)
    finally:
        for hook in hooks:
            hook.remove()
    if pixels is not None:
        found["vision/last"] = found[f"vision/block{len(vision.encoder.layers) - 1}"]
        found["vision/shuffled"] = found["vision/shuffled"].reshape(pixels.shape[0], -1, found["vision/shuffled"].shape[-1])
    found["text/logits"] = output.logits[:, -1:] if last_logits else output.logits
    if last_logits:
        found["text/after_norm"] = found["text/after_norm"][:, -1:]
    for n, layer in enumerate(output.past_key_values):
        found[f"text/keys{n}"], found[f"text/values{n}"] = layer[0], layer[1]
    # Text stages are a batch of one.
    return {name: (t[0] if name.startswith("text/") else t).float().contiguous().cpu().clone() for name, t in found.items()}


def wanted(name: str, chosen: str) -> bool:
    return not chosen or any(name == c or name.startswith(c + "/") for c in chosen.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", action="append", default=[], help="repeatable; each gets its own <image> mark")
    parser.add_argument("--max-num", type=int, default=12)
    parser.add_argument("--prompt", action="append", required=True, help="repeatable: a case each, with all pictures")
    parser.add_argument("--out", required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--stages", default="", help="only these, e.g. vision,text/logits")
    parser.add_argument("--last-logits", action="store_true", help="logits of the last row only")
    args = parser.parse_args()

    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, args.dtype)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, trust_remote_code=True, use_fast=False)
    model = transformers.AutoModel.from_pretrained(args.model, torch_dtype=dtype, trust_remote_code=True).eval()

    images, parts = [], []
    for n, path in enumerate(args.image):
        name = f"image{n}{pathlib.Path(path).suffix}"
        shutil.copyfile(path, out / name)
        images.append({"file": name, "max_num": args.max_num})
        parts.append(load_pixels(path, args.max_num).to(dtype))
    pixels = torch.cat(parts) if parts else None
    tiles = [len(part) for part in parts]

    cases = []
    with torch.no_grad():
        for n, question in enumerate(args.prompt):
            if len(parts) > 1 and "<image>" not in question:
                question = "".join(f"Image-{k + 1}: <image>\n" for k in range(len(parts))) + question
            prompt, ids, generated, text = ask(model, tokenizer, pixels, tiles, question, args.max_new_tokens)
            tensors = {k: t for k, t in stages(model, ids, pixels, args.last_logits).items() if wanted(k, args.stages)}
            save_file(tensors, out / f"case{n}.safetensors", metadata={"prompt": prompt, "ids": json.dumps(ids)})
            cases.append({"name": f"case{n}", "images": images, "prompt": question, "prompt_string": prompt,
                          "prompt_ids": ids, "greedy_ids": generated, "text": text, "tensors": f"case{n}.safetensors"})
            print(f"case{n}: {len(ids)} prompt tokens, {len(generated)} generated, {len(tensors)} stages: {text!r}")

    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    expectation = {"format": 1, "model": str(args.model), "dtype": args.dtype, "versions": versions, "cases": cases}
    (out / "expectation.json").write_text(json.dumps(expectation, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
