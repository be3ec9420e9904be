#include "text/chat_template.h"

#include "base/error.h"

namespace internvl {

// The default system messages (spec 6.1): half-width comma and blank after InternVL in the first.
static const std::string system_2_0 =
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。";

static const std::string system_2_5 =
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模"
    "态大语"
    "言模型。";

static const ChatTemplate templates[] = {
    // InternVL2: no newline after <|im_end|>, unlike ChatML (spec 6.1).
    {"Hermes-2", "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n",
     "<|im_end|>", "<|im_end|>", system_2_0},
    {"internlm2-chat", "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n",
     "<|im_end|>", "<|im_end|>", system_2_0},
    {"phi3-chat", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|end|>", "<|end|>",
     system_2_0},
    // InternVL2.5 to 3.5: a newline after <|im_end|>, which is no part of the stop token.
    {"internvl2_5", "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n",
     "<|im_end|>\n", "<|im_end|>", system_2_5},
};

const ChatTemplate& find_template(const std::string& name) {
    std::string known;
    for (const ChatTemplate& t : templates) {
        if (t.name == name) return t;
        known += (known.empty() ? "" : ", ") + t.name;
    }
    throw Error("unknown chat template", known, name, "config.json");
}

std::string render(const ChatTemplate& t, const std::string& system, std::span<const Turn> turns) {
    std::string text = t.system_prefix + system + t.separator;
    const auto message = [&](const std::string& role, const std::string& body) {
        text += body.empty() ? role : role + body + t.separator;
    };
    for (const Turn& turn : turns) {
        message(t.user, turn.question);
        message(t.assistant, turn.answer.value_or(""));
    }
    return text;
}

std::string picture_tokens(int tiles, int tokens_per_tile) {
    std::string text = "<img>";
    for (int i = 0; i < tiles * tokens_per_tile; ++i) text += "<IMG_CONTEXT>";
    return text + "</img>";
}

std::string expand_images(std::string prompt, std::span<const int> tiles, int tokens_per_tile) {
    static constexpr std::string_view mark = "<image>";
    size_t from = 0;
    for (const int n : tiles) {
        const size_t at = prompt.find(mark, from);
        if (at == prompt.npos) break;
        const std::string tokens = picture_tokens(n, tokens_per_tile);
        prompt.replace(at, mark.size(), tokens);
        from = at + tokens.size();  // what was put in holds no mark
    }
    return prompt;
}

}  // namespace internvl
