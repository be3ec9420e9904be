// Tokens and stop texts of any kind: an answer taken in deltas is the answer taken whole, it is
// UTF-8, its stop text is not in it, and the bytes of its tokens are its text.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "serve/answer_writer.h"
#include "text/utf8.h"

using namespace internvl;

namespace {

const std::vector<std::pair<Tokenizer, const ChatTemplate*>>& families() {
    static const auto all = [] {
        std::vector<std::pair<Tokenizer, const ChatTemplate*>> list;
        for (const auto& [name, chat] :
             {std::pair("tiny-1b", "Hermes-2"), std::pair("tiny-2b", "internlm2-chat"),
              std::pair("tiny-4b", "phi3-chat"), std::pair("tiny-40b", "Hermes-2"),
              std::pair("tiny-76b", "Hermes-2")}) {
            const std::string folder = std::string(INTERNVL_CHECKPOINTS) + "/" + name;
            const auto read = [&](const std::string& file) -> std::optional<std::string> {
                std::ifstream in(folder + "/" + file, std::ios::binary);
                if (!in) return std::nullopt;
                std::stringstream text;
                text << in.rdbuf();
                return text.str();
            };
            list.emplace_back(Tokenizer::load(read, folder), &find_template(chat));
        }
        return list;
    }();
    return all;
}

struct Whole {
    std::string text, bytes;
    size_t tokens = 0;
    bool stopped = false;
};

Whole write(const Tokenizer& tokenizer, const ChatTemplate& chat, const GenerateOptions& g,
            const std::vector<int>& ids, bool often) {
    AnswerWriter writer(tokenizer, chat, g, 0);
    const std::vector<float> logits(size_t(tokenizer.size()));
    Whole whole;
    const auto take = [&] {
        const Delta d = writer.take();
        if (!is_valid_utf8(d.text)) __builtin_trap();
        whole.text += d.text;
        whole.tokens += d.logprobs.size();
        for (const TokenLogprob& t : d.logprobs)
            if (!t.chosen.dropped) whole.bytes += t.chosen.bytes;
    };
    for (const int id : ids) {
        writer.logits(logits);
        if (!writer.push(id)) break;
        if (often) take();
    }
    writer.finish();
    take();
    whole.stopped = writer.stopped();
    if (whole.tokens != size_t(writer.count())) __builtin_trap();
    return whole;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto next = [&] { return size > 0 ? (--size, *data++) : uint8_t(0); };
    const auto& [tokenizer, chat] = families()[next() % families().size()];
    GenerateOptions g;
    const uint8_t flags = next();
    g.skip_special_tokens = flags & 1;
    g.include_stop = flags & 2;
    for (int i = 0; i < (flags >> 2 & 3); ++i) {
        std::string stop;
        for (int n = 1 + next() % 4; n > 0; --n) stop += char('a' + next() % 4);
        g.stop.push_back(stop);
    }
    std::vector<int> ids;
    while (size > 1 && ids.size() < 200) ids.push_back((next() << 8 | next()) % tokenizer.size());
    const Whole a = write(tokenizer, *chat, g, ids, true),
                b = write(tokenizer, *chat, g, ids, false);
    if (a.text != b.text || a.bytes != b.bytes || a.stopped != b.stopped) __builtin_trap();
    if (!a.bytes.starts_with(a.text) || (!a.stopped && a.bytes != a.text)) __builtin_trap();
    for (const std::string& stop : g.stop)
        if (!g.include_stop && a.text.find(stop) != a.text.npos) __builtin_trap();
    return 0;
}
