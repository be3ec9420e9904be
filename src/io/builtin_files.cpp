// The built-in model `demo`: the tiny fixture with random weights, taken in by the assembler from
// INTERNVL_DEMO_FOLDER.
#include "io/builtin_files.h"

#include "base/embed.h"

#define EMBED(symbol, file) INTERNVL_EMBED(symbol, INTERNVL_DEMO_FOLDER "/" file)

EMBED(config, "config.json")
EMBED(weights, "model.safetensors")
EMBED(vocab, "vocab.json")
EMBED(merges, "merges.txt")
EMBED(added, "added_tokens.json")
EMBED(special, "special_tokens_map.json")
EMBED(tokenizer, "tokenizer_config.json")
INTERNVL_EMBED(picture, INTERNVL_ASSETS "/demo.png")

namespace internvl {

#define ROW(symbol, file) \
    { "demo", file, std::span(internvl_##symbol##_begin, internvl_##symbol##_end) }

std::span<const BuiltinFile> builtin_files() {
    static const BuiltinFile files[] = {
        ROW(config, "config.json"),
        ROW(weights, "model.safetensors"),
        ROW(vocab, "vocab.json"),
        ROW(merges, "merges.txt"),
        ROW(added, "added_tokens.json"),
        ROW(special, "special_tokens_map.json"),
        ROW(tokenizer, "tokenizer_config.json"),
    };
    return files;
}

std::span<const std::byte> builtin_picture() {
    return {internvl_picture_begin, internvl_picture_end};
}

}  // namespace internvl
