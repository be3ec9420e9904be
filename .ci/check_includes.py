#!/usr/bin/env python3
"""Fails on an #include that runs against the levels of docs/architecture.md, or on a library used outside its rooms."""
import pathlib
import re
import sys

# folder -> folders that it may include besides itself
MAY_INCLUDE = {
    "base": set(),
    "tensor": {"base"},
    "io": {"base", "tensor"},
    "media": {"base"},
    "text": {"base"},
    "ops": {"base", "tensor"},
    "model": {"base", "tensor", "io", "ops"},
    "engine": {"base", "tensor", "io", "ops", "model", "media", "text", "internvl/options.h", "internvl/grounding.h"},
    "train": {"base", "tensor", "io", "ops", "model", "media", "text"},
    "api": {"base", "tensor", "io", "ops", "model", "media", "text", "engine", "internvl"},
    "serve": {"base", "tensor", "io", "ops", "model", "media", "text", "engine", "api", "internvl"},
    "cli": {"base", "tensor", "io", "ops", "model", "media", "text", "engine", "api", "serve", "internvl"},
}

# library header -> folders that may know it
LIBRARIES = {
    r"openssl/": {"base"},
    r"xxhash\.h": {"base"},
    r"nlohmann/": {"base"},
    r"curl/": {"io"},
    r"jpeglib\.h|png\.h|webp/|gif_lib\.h|tiff": {"media"},
    r"lib(avformat|avcodec|avutil|swscale|avfilter|avdevice|swresample)/": {"media"},
    r"utf8proc\.h": {"text"},
    r"hwy/": {"ops"},
    r"immintrin\.h": {"ops", "media", "base"},
    r"seccomp\.h": {"serve"},
    r"boost/": {"serve"},
    r"spdlog/": {"serve"},
    r"toml\+\+/": {"serve"},
    r"CLI/": {"cli"},
    r"histedit\.h": {"cli"},
}


def problems(root: pathlib.Path):
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        room = path.relative_to(root / "src").parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            here = f"{path.relative_to(root)}:{number}"
            if match := re.match(r'\s*#include "([^"]+)"', line):
                target = match[1]
                folder = target.split("/")[0]
                allowed = MAY_INCLUDE[room] | {room}
                if folder not in allowed and target not in allowed:
                    yield f"{here}: {room} may not include {target}"
            elif match := re.match(r"\s*#include <([^>]+)>", line):
                for pattern, rooms in LIBRARIES.items():
                    if re.match(pattern, match[1]) and room not in rooms:
                        yield f"{here}: <{match[1]}> belongs to {', '.join(sorted(rooms))}"


found = list(problems(pathlib.Path(__file__).resolve().parent.parent))
print("\n".join(found) if found else "include arrows: fine")
sys.exit(bool(found))
