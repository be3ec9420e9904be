#include "train/labels.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace internvl {

namespace {

std::vector<std::string> split(const std::string& text, const std::string& by) {
    std::vector<std::string> parts;
    size_t from = 0;
    for (size_t at; (at = text.find(by, from)) != text.npos; from = at + by.size())
        parts.push_back(text.substr(from, at - from));
    parts.push_back(text.substr(from));
    return parts;
}

int64_t count_tokens(const Tokenizer& tokenizer, const std::string& text) {
    return int64_t(tokenizer.encode(text).size());
}

// Labels on their way: a place in the tokens up to which it has been decided.
struct Marks {
    const Tokenizer& tokenizer;
    std::vector<int>& labels;
    int64_t at = 0;

    void ignore(int64_t first, int64_t count) {
        const int64_t end = std::min(first + count, int64_t(labels.size()));
        for (int64_t i = std::max<int64_t>(0, first); i < end; ++i)
            labels[size_t(i)] = ignored_label;
    }
    void ignore_from(int64_t first) { ignore(first, int64_t(labels.size()) - first); }
};

// How many tokens the parts of a conversation have by themselves, beyond what they count within it:
// those of the first turn and those of later ones, and of the questions in them.
struct PartRule {
    int64_t start;
    int64_t first_turn, later_turn;
    int64_t first_question, later_question;
    bool ignores_end_of_text;
};
constexpr PartRule hermes_2{0, -1, -1, 0, 0, false}, phi3{1, 0, 1, 1, 2, true};

// Hermes-2 and phi3-chat: the text is cut at separators into system + question + answer, then
// question + answer each.
void mark_by_separator(const ChatTemplate& t, const PartRule& rule, const std::string& text,
                       Marks& marks) {
    marks.at = rule.start;
    marks.ignore(0, rule.start);
    if (rule.ignores_end_of_text)
        std::replace(marks.labels.begin(), marks.labels.end(),
                     marks.tokenizer.find("<|endoftext|>").value_or(ignored_label), ignored_label);
    const std::vector<std::string> parts = split(text, t.separator);
    for (size_t i = 0; i < parts.size(); i += i == 0 ? 3 : 2) {
        std::string turn = parts[i];
        for (size_t k = i + 1; k < std::min(i + (i == 0 ? 3 : 2), parts.size()); ++k)
            turn += t.separator + parts[k];
        if (turn.empty()) break;
        const auto halves = split(turn, t.separator + t.assistant);
        if (halves.size() != 2) break;
        const std::string question = halves[0] + t.separator + t.assistant;
        marks.ignore(marks.at, count_tokens(marks.tokenizer, question) -
                                   (i == 0 ? rule.first_question : rule.later_question));
        marks.at +=
            count_tokens(marks.tokenizer, turn) - (i == 0 ? rule.first_turn : rule.later_turn);
    }
    marks.ignore_from(marks.at);
}

// internlm2-chat: the text is cut at the roles, which therefore must not stand in messages.
void mark_by_role(const ChatTemplate& t, const std::string& text, Marks& marks) {
    const auto count = [&](const std::string& part) {  // without its start token
        return count_tokens(marks.tokenizer, part) - 1;
    };
    const auto pass = [&](const std::string& part, bool ignored) {
        if (ignored) marks.ignore(marks.at, count(part));
        marks.at += count(part);
    };
    marks.ignore(0, 1);
    marks.at = 1;
    const std::vector<std::string> parts = split(text, t.assistant);
    pass(parts[0] + t.assistant, true);
    for (size_t i = 1; i + 1 < parts.size(); ++i) {
        const auto halves = split(parts[i], t.user);
        if (halves.size() != 2)
            throw Error("a role stands within a message", "one question after each answer",
                        fmt::format("{}", halves.size() - 1), t.name);
        pass(halves[0], false);
        pass(t.user + halves[1] + t.assistant, true);
    }
    pass(parts.back(), false);
    marks.ignore_from(marks.at);
}

// Without an answer of the model at the beginning. Throws unless questions and answers alternate.
std::vector<Turn> turns_of(std::span<const Utterance> messages, bool stripped) {
    std::vector<Turn> turns;
    const size_t first = !messages.empty() && messages[0].from == "gpt";
    for (size_t i = first; i < messages.size(); ++i) {
        const bool question = (i - first) % 2 == 0;
        if (messages[i].from != (question ? "human" : "gpt"))
            throw Error("roles do not alternate", question ? "human" : "gpt", messages[i].from,
                        "conversations");
        const std::string text = stripped ? strip(messages[i].value) : messages[i].value;
        if (question)
            turns.push_back({text, std::nullopt});
        else
            turns.back().answer = text;
    }
    return turns;
}

// As render(), but a question at the end is not followed by the answer's role.
std::string render_all(const ChatTemplate& t, const std::string& system,
                       std::span<const Turn> turns) {
    std::string text = render(t, system, turns);
    if (!turns.empty() && !turns.back().answer) text.resize(text.size() - t.assistant.size());
    return text;
}

LabelledSample label_text(const ChatTemplate& t, const Tokenizer& tokenizer,
                          std::span<const Utterance> messages, const LabelOptions& options) {
    const bool internlm2 = t.name == "internlm2-chat";
    std::string text = render_all(t, options.system, turns_of(messages, internlm2));
    text = expand_images(std::move(text), options.pictures, 1);
    LabelledSample result;
    std::vector<int>& ids = result.sample.ids;
    std::vector<int>& labels = result.sample.labels;
    ids = tokenizer.encode(text);
    ids.resize(std::min(ids.size(), options.most_tokens));
    labels = ids;
    Marks marks{tokenizer, labels};
    if (internlm2)
        mark_by_role(t, text, marks);
    else
        mark_by_separator(t, t.name == "phi3-chat" ? phi3 : hermes_2, text, marks);
    const int64_t total =
        std::count_if(ids.begin(), ids.end(), [&](int id) { return id != options.pad_token; });
    result.mismatch = marks.at < int64_t(options.most_tokens) && marks.at != total;
    if (result.mismatch) marks.ignore_from(0);
    return result;
}

// internvl2_5: the first remaining marks of questions become pictures; each needs one.
std::vector<Utterance> with_pictures(std::span<const Utterance> messages,
                                     std::span<const int> pictures) {
    std::vector<Utterance> all(messages.begin(), messages.end());
    size_t next = 0;
    static constexpr std::string_view mark = "<image>";
    for (Utterance& m : all)
        for (size_t at = 0; m.from == "human" && next < pictures.size() &&
                            (at = m.value.find(mark, at)) != m.value.npos;) {
            const std::string tokens = picture_tokens(1, pictures[next++]);
            m.value.replace(at, mark.size(), tokens);
            at += tokens.size();
        }
    if (next != pictures.size())
        throw Error("pictures and <image> marks of the questions do not agree",
                    fmt::format("{}", pictures.size()), fmt::format("{}", next), "conversations");
    return all;
}

// internvl2_5: each message has tokens of its own, so nothing can fail to agree.
LabelledSample label_messages(const ChatTemplate& t, const Tokenizer& tokenizer,
                              std::span<const Utterance> messages, const LabelOptions& options) {
    const size_t start = tokenizer.encode("").size();  // the start token, where there is one
    LabelledSample result;
    std::vector<int>& ids = result.sample.ids;
    std::vector<int>& labels = result.sample.labels;
    const size_t role = tokenizer.encode(t.assistant).size();
    const auto add = [&](const std::string& text, bool answer) {
        const std::vector<int> all = tokenizer.encode(text);
        for (size_t i = ids.empty() ? 0 : start; i < all.size(); ++i) {
            ids.push_back(all[i]);
            const bool learnt = answer && i >= role && i + 1 < all.size();
            labels.push_back(learnt ? all[i] : ignored_label);
        }
    };
    const bool own_system = !messages.empty() && messages[0].from == "system";
    add(t.system_prefix + (own_system ? messages[0].value : options.system) + t.separator, false);
    for (const Utterance& m : with_pictures(messages.subspan(own_system), options.pictures)) {
        if (m.from != "human" && m.from != "gpt")
            throw Error("a message of this role is not supported here", "human or gpt", m.from,
                        "conversations");
        const bool answer = m.from == "gpt";
        add((answer ? t.assistant : t.user) + m.value + t.separator, answer);
    }
    ids.resize(std::min(ids.size(), options.most_tokens));
    labels.resize(ids.size());
    return result;
}

}  // namespace

LabelledSample label_conversation(const ChatTemplate& t, const Tokenizer& tokenizer,
                                  std::span<const Utterance> messages,
                                  const LabelOptions& options) {
    return (t.name == "internvl2_5" ? label_messages : label_text)(t, tokenizer, messages, options);
}

}  // namespace internvl
