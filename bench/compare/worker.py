"""What the workers of all alternatives share: a process that is asked on stdin and answers on stdout, a JSON line each.

    {"do": "vision", "repeat": 1, "tiles": 13}   ->   {"ms": [25012.1]}

A worker defines a class with `__init__(self, options)` (ready to work afterwards), `about()` (name, version and what was
found best, in words), `state()` (options that make a new worker start with that knowledge) and those of the measures
that it can do; each returns the milliseconds of one run. A first one that does not count is asked for by the caller.

    vision(tiles)                         pixels to projector rows
    prefill(tokens)                       a prompt of so many tokens to its first token
    decode(context, sequences, tokens)    one pass that gives each of `sequences` a token behind `context` others,
                                          mean of `tokens` passes
    first_token(tiles, tokens)            pixels to first token of a prompt that holds the rows of the tiles
"""

import json
import os
import sys
import time
import traceback


def answers_only():
    """A file for answers; whatever libraries print goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def peak_mb():
    """The most memory that this process ever had resident (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def timed(work):
    """Milliseconds that a call takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def answer(engine, request):
    request = dict(request)
    what, repeat = request.pop("do"), request.pop("repeat", 1)
    if what == "memory":
        return {"mb": peak_mb()}
    if what in ("about", "state"):
        return {what: getattr(engine, what)()}
    return {"ms": [getattr(engine, what)(**request) for _ in range(repeat)]}


def serve(make_engine):
    """Loads the engine that the JSON object in argv[1] describes, then answers until stdin ends."""
    answers = answers_only()

    def say(line):
        print(json.dumps(line), file=answers, flush=True)

    engine = []
    try:
        load_ms = timed(lambda: engine.append(make_engine(json.loads(sys.argv[1]))))
    except (Exception, SystemExit) as error:  # a worker never takes the comparison down
        traceback.print_exc()
        return say({"error": f"{type(error).__name__}: {error}"})
    say({"ready_ms": load_ms, "about": engine[0].about()})
    for line in sys.stdin:
        try:
            say(answer(engine[0], json.loads(line)))
        except Exception as error:
            traceback.print_exc()
            say({"error": f"{type(error).__name__}: {error}"})
