"""Measures llama.cpp on the files of llama_convert.py (see worker.py for what is asked).

Its cutting of pictures is left out, which is not that of InternVL2: it gets our number of tiles, as pictures of one tile.
"""

import ctypes
import pathlib

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd
import numpy as np

import worker

SIDE, STEP = 448, 512  # pixels of a tile; tokens of a prompt that are computed together, its default
IMAGE = 1  # the kind of a chunk
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)
NO_CALLBACK = mtmd.mtmd_helper_post_decode_callback()


def check(status, what):
    if status != 0:
        raise RuntimeError(f"{what} returned {status}")


class Llama:
    def __init__(self, options):
        """options: files (language, vision), threads."""
        self._threads = options["threads"]
        llama_cpp.llama_log_set(QUIET, None)
        llama_cpp.llama_backend_init()
        files = {name: path.encode() for name, path in options["files"].items()}
        self._model = llama_cpp.llama_model_load_from_file(files["language"], llama_cpp.llama_model_default_params())
        parameters = mtmd.mtmd_context_params_default()
        parameters.n_threads, parameters.use_gpu, parameters.print_timings = self._threads, False, False
        self._vision = mtmd.mtmd_init_from_file(files["vision"], self._model, parameters)
        if not self._model or not self._vision:
            raise RuntimeError("llama.cpp could not load its files")
        self._marker = parameters.media_marker
        self._name = pathlib.Path(options["files"]["language"]).stem.split("-")[1]
        self._context, self._shape = None, None
        self._in_context(1, 8192)

    def about(self):
        features = llama_cpp.llama_print_system_info().decode().split("|")
        kernels = [part.split("=")[0].strip() for part in features if "AVX512" in part and "= 1" in part]
        return f"llama-cpp-python {llama_cpp.__version__}, {self._name}, {', '.join(kernels) or 'no AVX-512'}"

    def state(self):
        return {}

    def _in_context(self, sequences, each):
        """An empty context for so many sequences of `each` tokens."""
        if self._shape != (sequences, each):
            if self._context:
                llama_cpp.llama_free(self._context)
            parameters = llama_cpp.llama_context_default_params()
            parameters.n_ctx, parameters.n_seq_max, parameters.n_batch = sequences * each, sequences, max(2048, each)
            parameters.n_threads = parameters.n_threads_batch = self._threads
            parameters.n_ubatch = STEP
            self._context, self._shape = llama_cpp.llama_init_from_model(self._model, parameters), (sequences, each)
            if not self._context:
                raise RuntimeError("llama.cpp made no context")
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _run(self, rows):
        """rows: (token, position, sequence, whether its logits are wanted); waits for the last logits."""
        batch = llama_cpp.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        check(llama_cpp.llama_decode(self._context, batch), "llama_decode")
        llama_cpp.llama_batch_free(batch)
        if rows[-1][3]:
            llama_cpp.llama_get_logits_ith(self._context, -1)

    def _prompt(self, tokens, first=0, sequence=0):
        self._run([(i * 31 % 500, i, sequence, i == first + tokens - 1) for i in range(first, first + tokens)])

    def _chunks(self, tiles):
        """The pictures' chunks, and what must outlive them."""
        pixels = np.random.default_rng(0).integers(0, 256, (tiles, SIDE, SIDE, 3), np.uint8)
        pointer = ctypes.POINTER(ctypes.c_uint8)
        maps = [mtmd.mtmd_bitmap_init(SIDE, SIDE, tile.ctypes.data_as(pointer)) for tile in pixels]
        text = self._marker * tiles
        chunks = mtmd.mtmd_input_chunks_init()
        check(mtmd.mtmd_tokenize(self._vision, chunks, ctypes.byref(mtmd.mtmd_input_text(text, len(text), False, True)),
                                 (mtmd.mtmd_bitmap_p_ctypes * tiles)(*maps), tiles), "mtmd_tokenize")
        for bitmap in maps:
            mtmd.mtmd_bitmap_free(bitmap)
        every = [mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks))]
        pictures = [chunk for chunk in every if mtmd.mtmd_input_chunk_get_type(chunk) == IMAGE]
        if len(pictures) != tiles:
            raise RuntimeError(f"{tiles} pictures of one tile became {len(pictures)}")
        return chunks, pictures

    def _encode(self, pictures, on_rows=lambda picture, rows: None):
        """All pictures, as many together as it takes."""
        while pictures:
            batch = mtmd.mtmd_batch_init(self._vision)
            count = 0
            while count < len(pictures) and mtmd.mtmd_batch_add_chunk(batch, pictures[count]) == 0:
                count += 1
            check(mtmd.mtmd_batch_encode(batch), "mtmd_batch_encode")
            for picture in pictures[:count]:
                on_rows(picture, mtmd.mtmd_batch_get_output_embd(batch, picture))
            mtmd.mtmd_batch_free(batch)
            pictures = pictures[count:]

    def vision(self, tiles):
        chunks, pictures = self._chunks(tiles)
        spent = worker.timed(lambda: self._encode(pictures))
        mtmd.mtmd_input_chunks_free(chunks)
        return spent

    def prefill(self, tokens):
        self._in_context(1, 8192)
        return worker.timed(lambda: self._prompt(tokens))

    def decode(self, context, sequences, tokens):
        self._in_context(sequences, 1024)
        for sequence in range(sequences):
            self._prompt(context, sequence=sequence)

        def run(first, passes):
            for i in range(first, first + passes):
                self._run([(i % 500, context + i, sequence, True) for sequence in range(sequences)])

        run(0, 2)
        return worker.timed(lambda: run(2, tokens)) / tokens

    def first_token(self, tiles, tokens):
        self._in_context(1, 8192)
        chunks, pictures = self._chunks(tiles)
        past = ctypes.c_int32(16)

        def show(picture, rows):
            check(mtmd.mtmd_helper_decode_image_chunk(self._vision, self._context, picture, rows, past, 0, STEP,
                                                      ctypes.byref(past), NO_CALLBACK, None), "decoding a picture")

        def run():
            self._prompt(16)
            self._encode(pictures, show)
            self._prompt(tokens - past.value, past.value)

        spent = worker.timed(run)
        mtmd.mtmd_input_chunks_free(chunks)
        return spent


if __name__ == "__main__":
    worker.serve(Llama)
