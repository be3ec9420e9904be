#pragma once
// What must hold for every tokenizer that could be loaded, whatever its files said.
#include <string>
#include <vector>

#include "text/stream_decoder.h"
#include "text/text_chunks.h"
#include "text/utf8.h"

namespace internvl {

inline void exercise_ids(const Tokenizer& t, const std::vector<int>& ids) {
    for (const bool skip : {false, true}) {
        const std::string text = t.decode(ids, skip);
        if (!is_valid_utf8(text)) __builtin_trap();
        StreamDecoder stream(t, skip);
        TextChunks chunks(t, skip);
        std::string streamed;
        for (const int id : ids) {
            const std::string piece = stream.push(id);
            if (!is_valid_utf8(piece) || !is_valid_utf8(chunks.put(id))) __builtin_trap();
            streamed += piece;
        }
        if (streamed + stream.finish() != text || !is_valid_utf8(chunks.end())) __builtin_trap();
    }
}

inline size_t count_added(const Tokenizer& t, const std::vector<int>& ids) {
    size_t count = 0;
    for (const int id : ids)
        for (const AddedToken& token : t.added_tokens())
            count += token.id == id && !is_grounding_tag(token.text);
    return count;
}

inline void exercise_text(const Tokenizer& t, const std::string& text) {
    for (const auto& ids : {t.encode(text), t.encode_plain(text)}) {
        for (const int id : ids)
            if (id < 0 || id >= t.size()) __builtin_trap();
        exercise_ids(t, ids);
    }
    // Only what stands around every prompt.
    if (count_added(t, t.encode_plain(text)) > count_added(t, t.encode_plain(""))) __builtin_trap();
}

inline void exercise(const Tokenizer& t) {
    std::string all = "  Hello, 你好\xF0\x9F\x98\x80 don't 12345 \xE2\x96\x81x\xff\n";
    std::vector<int> ids;
    for (const AddedToken& token : t.added_tokens()) {
        if (all.size() < 4096) all += token.text + " n't ." + token.text;
        ids.push_back(token.id);
    }
    exercise_text(t, all);
    for (int id = -1; id <= std::min(t.size(), 300); ++id) ids.push_back(id);
    exercise_ids(t, ids);
}

}  // namespace internvl
