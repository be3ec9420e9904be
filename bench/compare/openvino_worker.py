"""OpenVINO as a worker of the comparison (see worker.py): the graphs of openvino_convert.py on the CPU plugin.

It gets the best that was found for it. On two cores of a Zen 4, with OpenVINO 2026.4:
- number of tiles at a time: tried here, each time (CHUNKS);
- dynamic quantisation of activations before compressed weights: as the plugin has it, groups of 32, and, in the
  variants called tuned, in the fastest groups (GROUPS), tried here each time. 128 and more gave a tile in 0.77 of the
  time, a prompt in 0.75; no dynamic quantisation at all was 1.25 times as slow as groups of 32;
- threads not bound to cores: equal alone, and faster beside other load (decoding in 0.64 to 0.82 of the time);
- attention over pages, as in OpenVINO GenAI, or stateful, as in optimum-intel (--stateful): a prompt of 3,392 tokens
  took 0.78 of the time with pages, decoding 1.05;
- KV cache of 8 bits (the default) or bf16: equal within the noise of some per cent; so was, stateful, a mask from the
  graph or from the attention node, but for long prompts (0.92 to 0.95 with the latter). Both are left as the exporter
  and the plugin have them;
- attention of the vision tower as one node or as its parts, a fixed number of tiles or any: equal within 3 %.
"""

import numpy as np
import openvino as ov

import worker
from openvino_language import KINDS, paged

CHUNKS = (1, 2, 4, 13)
GROUPS = (32, 128, 512, 1024)  # the last is every row whole, in the widths of the smaller models
FUSED = ("ScaledDotProductAttention", "PagedAttention")  # as the plugin calls nodes that read the cache themselves
GROUP_KEY = "DYNAMIC_QUANTIZATION_GROUP_SIZE"


class OpenVino:
    def __init__(self, options):
        """options: files (of a converted variant, by part), attention, threads, cache (folder for compiled models),
        settings, tune.

        And what `state` said before: groups (by part) and chunk; where they are missing they are found out, groups
        only with `tune`.
        """
        self._options, self._core, self._compiled, self._requests = options, ov.Core(), {}, {}
        self._groups, self._chunk = dict(options.get("groups", {})), options.get("chunk")
        self._tried_groups, self._tried_chunks = {}, {}
        for part in ("embedding", "vision", "language"):
            self._load(part)
        self._side = self._compiled["vision"].input(0).get_partial_shape()[2].get_length()
        if options.get("tune") and "groups" not in options:
            self._choose_group("vision", lambda: self._encode(self._pixels(1), 1))
            self._choose_group("language", lambda: self.prefill(384))

    def _load(self, part):
        settings = {
            "INFERENCE_NUM_THREADS": str(self._options["threads"]), "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": "NO", "CACHE_DIR": self._options["cache"], **self._options.get("settings", {}),
        }
        if part in self._groups:
            settings[GROUP_KEY] = str(self._groups[part])
        model = self._options["files"][part]
        if part == "language" and self._options["attention"] == "paged":
            model = paged(self._core.read_model(model))
        compiled = self._core.compile_model(model, "CPU", settings)
        self._compiled[part] = compiled
        kind = KINDS[self._options["attention"]] if part == "language" else ov.CompiledModel.create_infer_request
        self._requests[part] = kind(compiled)

    def _choose_group(self, part, work):
        """The fastest of GROUPS for a part: the best of three runs in turns, after one that prepares kernels."""
        requests, tried = {}, {}
        for group in GROUPS:
            self._groups[part] = group
            self._load(part)
            requests[group] = self._requests[part]
            work()
        for group in GROUPS * 3:
            self._requests[part] = requests[group]
            tried[group] = min(worker.timed(work), tried.get(group, float("inf")))
        self._groups[part] = min(tried, key=tried.get)
        self._requests[part] = requests[self._groups[part]]
        self._tried_groups[part] = tried

    def about(self):
        def tried(times):
            return ", ".join(f"{key}: {ms:.0f}" for key, ms in times.items())

        vision, language = self._compiled["vision"], self._compiled["language"]
        kinds = [op.get_rt_info()["layerType"].astype(str) for op in language.get_runtime_model().get_ops()]
        words = [
            f"OpenVINO {ov.__version__.split('-')[0]}",
            f"computes in {vision.get_property('INFERENCE_PRECISION_HINT').to_string()}",
            f"KV cache {language.get_property('KV_CACHE_PRECISION').to_string()}",
            f"{self._options['attention']} attention ({sum(kinds.count(kind) for kind in FUSED)} nodes)",
        ]
        for part, times in self._tried_groups.items():
            words.append(f"{part} activations in groups of {self._groups[part]} (ms by size: {tried(times)})")
        if self._tried_chunks:
            words.append(f"{self._chunk} tiles at a time (ms a tile: {tried(self._tried_chunks)})")
        return ", ".join(words)

    def state(self):
        return {"chunk": self._chunk, "groups": self._groups}

    def _encode(self, pixels, chunk):
        parts = [
            self._requests["vision"].infer([pixels[i : i + chunk]], share_inputs=True, share_outputs=True)[0].copy()
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
            self._tried_chunks[chunk] = times[1] / chunk
        self._chunk = min(self._tried_chunks, key=self._tried_chunks.get)
        if tiles % self._chunk:
            self._encode(self._pixels(tiles % self._chunk), self._chunk)

    def vision(self, tiles):
        pixels = self._pixels(tiles)
        if self._chunk is None:
            self._choose_chunk(tiles)
        return worker.timed(lambda: self._encode(pixels, self._chunk))

    def _embed(self, ids):
        return self._requests["embedding"].infer([ids], share_inputs=True, share_outputs=True)[0]

    def _prompt(self, sequences, tokens):
        return (np.arange(sequences * tokens, dtype=np.int64) * 31 % 500).reshape(sequences, tokens)

    def prefill(self, tokens):
        ids = self._prompt(1, tokens)
        return worker.timed(lambda: self._requests["language"].begin(self._embed(ids)).argmax(-1))

    def decode(self, context, sequences, tokens):
        language = self._requests["language"]
        next_ids = [language.begin(self._embed(self._prompt(sequences, context))).argmax(-1)]

        def run(passes):
            for _ in range(passes):
                past = context + len(next_ids) - 1
                next_ids.append(language.step(self._embed(next_ids[-1][:, None]), past).argmax(-1))

        run(2)
        return worker.timed(lambda: run(tokens)) / tokens

    def first_token(self, tiles, tokens):
        if self._chunk is None:
            self._choose_chunk(tiles)
        pixels, ids = self._pixels(tiles), self._prompt(1, tokens)

        def run():
            rows = self._encode(pixels, self._chunk)
            embeds = self._embed(ids).copy()
            embeds[0, 16 : 16 + rows.shape[0] * rows.shape[1]] = rows.reshape(-1, rows.shape[2])
            self._requests["language"].begin(embeds).argmax(-1)

        return worker.timed(run)


if __name__ == "__main__":
    worker.serve(OpenVino)
