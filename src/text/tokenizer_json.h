#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/byte_bpe.h"

namespace internvl {

// A tokenizer.json of the byte-level kind (spec 7.7: Llama-3, and Qwen2 where nothing else is
// shipped).
struct TokenizerJson {
    ByteBpe bpe;
    bool nfc = false;                      // the normaliser
    std::vector<int> first_ids, last_ids;  // that the post-processor puts around a text
    nlohmann::json added_tokens;           // as the file lists them
};

// Throws Error for a file that is malformed, and for any normaliser, pattern, model, decoder or
// post-processor that is not known here, by name.
TokenizerJson read_tokenizer_json(std::string_view file, const std::string& where);

}  // namespace internvl
