#include "engine/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace internvl {

static constexpr std::string_view marks[] = {"<image>", "<IMAGE_TOKEN>"};

// The next mark in `text` from `from` on: its place and length, or npos.
static std::pair<size_t, size_t> find_mark(std::string_view text, size_t from) {
    std::pair<size_t, size_t> found{std::string_view::npos, 0};
    for (const std::string_view mark : marks)
        if (const size_t at = text.find(mark, from); at < found.first) found = {at, mark.size()};
    return found;
}

static size_t count_marks(std::string_view text) {
    size_t count = 0;
    for (auto [at, length] = find_mark(text, 0); at != text.npos;
         std::tie(at, length) = find_mark(text, at + length))
        ++count;
    return count;
}

static int count_pictures(const Exchange& turn) {
    return int(std::ranges::count(turn.pictures, 0, &PictureSlot::frame));
}

// The user's turn as pieces: his words are plain, pictures are control tokens. `earlier` pictures
// came before in the conversation (api.md 2.3, `auto` and `combined`).
static std::vector<Segment> user_turn(const Exchange& turn, int earlier) {
    using Kind = Segment::Kind;
    std::vector<Segment> out;
    const int photos = count_pictures(turn);
    if (turn.combine && !turn.pictures.empty()) {
        int all = 0;
        for (const PictureSlot& p : turn.pictures) all += p.tiles;
        out.push_back({Kind::control, picture_tokens(all, tokens_per_tile)});
        out.push_back({Kind::plain, "\n" + turn.question});
        return out;
    }
    const bool video = size_t(photos) < turn.pictures.size();
    if (photos > 0 && !video && count_marks(turn.question) == size_t(photos)) {
        size_t from = 0;
        for (const PictureSlot& p : turn.pictures) {
            const auto [at, length] = find_mark(turn.question, from);
            out.push_back({Kind::plain, turn.question.substr(from, at - from)});
            out.push_back({Kind::control, picture_tokens(p.tiles, tokens_per_tile)});
            from = at + length;
        }
        out.push_back({Kind::plain, turn.question.substr(from)});
        return out;
    }
    const bool numbered = earlier > 0 || photos > 1;
    for (const PictureSlot& p : turn.pictures) {
        if (p.frame > 0)
            out.push_back({Kind::plain, fmt::format("Frame{}: ", p.frame)});
        else if (numbered)
            out.push_back({Kind::plain, fmt::format("Image-{}: ", ++earlier)});
        out.push_back({Kind::control, picture_tokens(p.tiles, tokens_per_tile)});
        out.push_back({Kind::plain, "\n"});
    }
    out.push_back({Kind::plain, turn.question});
    return out;
}

Prompt build_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat, const std::string& system,
                    std::span<const Exchange> turns) {
    using Kind = Segment::Kind;
    std::vector<Segment> segments;
    const auto message = [&](const std::string& role, std::vector<Segment> body) {
        segments.push_back({Kind::control, role});
        const bool empty =
            std::all_of(body.begin(), body.end(), [](const Segment& s) { return s.text.empty(); });
        if (empty) return;  // the reference writes no separator after an empty message (spec 6.1)
        for (Segment& s : body) segments.push_back(std::move(s));
        segments.push_back({Kind::control, chat.separator});
    };
    segments.push_back({Kind::control, chat.system_prefix});
    segments.push_back({Kind::plain, system});
    segments.push_back({Kind::control, chat.separator});
    int pictures = 0;
    for (const Exchange& turn : turns) {
        message(chat.user, user_turn(turn, pictures));
        message(chat.assistant, {{Kind::plain, turn.answer.value_or("")}});
        pictures += count_pictures(turn);
    }
    Prompt prompt;
    for (const Segment& s : segments) prompt.text += s.text;
    prompt.ids = tokenizer.encode(segments);
    return prompt;
}

Prompt build_reference_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat,
                              const std::string& system, std::span<const Turn> turns,
                              std::span<const int> tiles) {
    Prompt prompt;
    prompt.text = expand_images(render(chat, system, turns), tiles, tokens_per_tile);
    prompt.ids = tokenizer.encode(prompt.text);
    return prompt;
}

}  // namespace internvl
