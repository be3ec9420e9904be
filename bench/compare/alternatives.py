"""The alternatives: how to see that they are there, which variants they have, and how their workers are started."""

import json
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


class Failure(Exception):
    """An alternative cannot do what it was asked for; the comparison goes on without it."""


class Worker:
    """A running worker process (see worker.py)."""

    def __init__(self, python, script, options, log):
        self._process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            first = self._answer()
        except Failure:
            self.close()
            raise
        self.ready_ms, self.about = first["ready_ms"], first["about"]

    def _answer(self):
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the worker ended"}
        if "error" in answer:
            raise Failure(" ".join(answer["error"].split()))
        return answer

    def ask(self, what, **request):
        try:
            print(json.dumps({"do": what, **request}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failure("the worker ended") from None
        return self._answer()

    def close(self):
        self._process.stdin.close()
        self._process.wait()


class Alternative:
    """Base: `variants` maps what it is compared in to our --quant; `imports` are the modules that must be there."""

    name, pip, script = "", "", ""
    imports, variants = (), {}

    def __init__(self, python, model, work, threads):
        self._python, self._model, self._threads = python, pathlib.Path(model), threads
        self._work = pathlib.Path(work) / self.name
        self.log = None

    def missing(self):
        """What one has to do to have it, or nothing."""
        code = "import " + ", ".join(self.imports)
        found = subprocess.run([self._python, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return "" if found.returncode == 0 else self.pip

    def prepare(self, variant):
        """Converts what has to be converted, once; the options of its worker."""
        return {"model": str(self._model), "threads": self._threads, "variant": variant}

    def start(self, options):
        return Worker(self._python, self.script, options, self.log)

    def _convert(self, *words):
        self._work.mkdir(parents=True, exist_ok=True)
        run = subprocess.run([self._python, *map(str, words)], stdout=subprocess.PIPE, stderr=self.log, text=True)
        if run.returncode != 0:
            raise Failure("the conversion failed")
        return run.stdout.splitlines()


class OpenVino(Alternative):
    name, pip, script = "openvino", "pip install openvino nncf numpy", "openvino_worker.py"
    imports = ("openvino", "nncf", "numpy")
    variants = {"fp16": "none", "int8": "int8", "int8-tuned": "int8", "int8-full": "int8", "int4": "int4", "int4-tuned": "int4"}
    usual = ("fp16", "int8", "int8-tuned", "int4", "int4-tuned")
    stateful = False

    def prepare(self, variant):
        tune = variant.endswith("-tuned")
        kind = variant[: -len("-tuned")] if tune else variant
        files = json.loads(self._convert(HERE / "openvino_convert.py", self._model, self._work, kind)[-1])
        attention = "stateful" if self.stateful else "paged"
        return {**super().prepare(variant), "files": files, "attention": attention, "tune": tune,
                "cache": str(self._work / "compiled")}


class Transformers(Alternative):
    name, pip, script = "transformers", "pip install transformers torch safetensors numpy", "transformers_worker.py"
    imports = ("torch", "transformers", "safetensors", "numpy")
    variants = {"bf16": "none"}
    usual = ("bf16",)


class Llama(Alternative):
    name, pip, script = "llama.cpp", "pip install llama-cpp-python gguf numpy", "llama_worker.py"
    imports = ("llama_cpp", "gguf", "numpy")
    variants = {"bf16": "none", "q8_0": "int8", "q4_0": "int4"}
    usual = ("bf16", "q8_0", "q4_0")

    def prepare(self, variant):
        files = self._convert(HERE / "llama_convert.py", self._model, self._work, variant)
        return {**super().prepare(variant), "files": json.loads(files[-1])}


ALL = {kind.name: kind for kind in (OpenVino, Transformers, Llama)}
