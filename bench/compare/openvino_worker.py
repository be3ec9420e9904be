"""OpenVINO as a worker of the comparison (see worker.py): the graphs of openvino_convert.py on the CPU plugin."""

import time

import numpy as np
import openvino as ov

import worker

CHUNKS = (1, 2, 4, 13)


class OpenVino:
    def __init__(self, options):
        """options: files (of a converted variant, by part), threads, cache (folder for compiled models)."""
        settings = {
            "INFERENCE_NUM_THREADS": str(options["threads"]),
            "PERFORMANCE_HINT": "LATENCY",
            "CACHE_DIR": options["cache"],
            **options.get("settings", {}),
        }
        core = ov.Core()
        compiled = {part: core.compile_model(path, "CPU", settings) for part, path in options["files"].items()}
        self._compiled = compiled
        self._vision, self._language, self._embedding = (
            compiled[part].create_infer_request() for part in ("vision", "language", "embedding")
        )
        self._chunk, self._tried = options.get("chunk"), {}
        self._side = compiled["vision"].input(0).get_partial_shape()[2].get_length()

    def about(self):
        language, vision = self._compiled["language"], self._compiled["vision"]
        kinds = [op.get_rt_info()["layerType"].astype(str) for op in language.get_runtime_model().get_ops()]
        fused = sum(kind == "ScaledDotProductAttention" for kind in kinds)
        tried = ", ".join(f"{n}: {ms:.0f}" for n, ms in self._tried.items())
        return (
            f"OpenVINO {ov.__version__.split('-')[0]}, computes in {vision.get_property('INFERENCE_PRECISION_HINT').to_string()}"
            f", KV cache {language.get_property('KV_CACHE_PRECISION').to_string()}"
            f", activations of compressed weights in groups of {language.get_property('DYNAMIC_QUANTIZATION_GROUP_SIZE')}"
            f", {fused} attention nodes that own their cache"
            + (f"; {self._chunk} tiles at a time (ms a tile, by tiles at a time: {tried})" if tried else "")
        )

    def state(self):
        return {"chunk": self._chunk}

    def _encode(self, pixels, chunk):
        parts = [
            self._vision.infer([pixels[i : i + chunk]], share_inputs=True, share_outputs=True)[0].copy()
            for i in range(0, len(pixels), chunk)
        ]
        return np.concatenate(parts)

    def _pixels(self, tiles):
        return np.random.default_rng(tiles).standard_normal((tiles, 3, self._side, self._side), dtype=np.float32)

    def _choose_chunk(self, tiles):
        """How many tiles at a time are fastest here: each number twice, the first run of a shape prepares kernels."""
        for chunk in sorted({min(chunk, tiles) for chunk in CHUNKS}):
            pixels = self._pixels(chunk)
            times = [worker.timed(lambda: self._encode(pixels, chunk)) for _ in range(2)]
            self._tried[chunk] = times[1] / chunk
        self._chunk = min(self._tried, key=self._tried.get)
        if tiles % self._chunk:
            self._encode(self._pixels(tiles % self._chunk), self._chunk)

    def vision(self, tiles):
        pixels = self._pixels(tiles)
        if self._chunk is None:
            self._choose_chunk(tiles)
        return worker.timed(lambda: self._encode(pixels, self._chunk))

    def _embed(self, ids):
        return self._embedding.infer([ids], share_inputs=True, share_outputs=True)[0]

    def _step(self, embeds, past):
        """Runs rows behind `past` others; the ids that greedy search would take."""
        sequences, new = embeds.shape[:2]
        inputs = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((sequences, past + new), np.int64),
            "position_ids": np.tile(np.arange(past, past + new), (sequences, 1)),
            "beam_idx": np.arange(sequences, dtype=np.int32),
        }
        logits = self._language.infer(inputs, share_inputs=True, share_outputs=True)[0]
        return logits[:, -1].argmax(-1)

    def _prompt(self, sequences, tokens):
        return (np.arange(sequences * tokens, dtype=np.int64) * 31 % 500).reshape(sequences, tokens)

    def _begin(self, ids):
        self._language.reset_state()
        return self._step(self._embed(ids), 0)

    def prefill(self, tokens):
        ids = self._prompt(1, tokens)
        return worker.timed(lambda: self._begin(ids))

    def decode(self, context, sequences, tokens):
        next_ids = self._begin(self._prompt(sequences, context))
        for i in range(2):
            next_ids = self._step(self._embed(next_ids[:, None]), context + i)
        start = time.perf_counter()
        for i in range(2, tokens + 2):
            next_ids = self._step(self._embed(next_ids[:, None]), context + i)
        return (time.perf_counter() - start) * 1e3 / tokens

    def first_token(self, tiles, tokens):
        if self._chunk is None:
            self._choose_chunk(tiles)
        pixels, ids = self._pixels(tiles), self._prompt(1, tokens)

        def run():
            rows = self._encode(pixels, self._chunk)
            embeds = self._embed(ids).copy()
            embeds[0, 16 : 16 + rows.shape[0] * rows.shape[1]] = rows.reshape(-1, rows.shape[2])
            self._language.reset_state()
            self._step(embeds, 0)

        return worker.timed(run)


if __name__ == "__main__":
    worker.serve(OpenVino)
