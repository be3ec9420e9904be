#include "engine/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace internvl {

namespace {

constexpr std::string_view marks[] = {"<image>", "<IMAGE_TOKEN>"};

// The next mark in `text` from `from` on: its place and length, or npos.
std::pair<size_t, size_t> find_mark(std::string_view text, size_t from) {
    std::pair<size_t, size_t> found{std::string_view::npos, 0};
    for (const std::string_view mark : marks)
        if (const size_t at = text.find(mark, from); at < found.first) found = {at, mark.size()};
    return found;
}

int count_marks_in(std::string_view text) {
    int count = 0;
    for (auto [at, length] = find_mark(text, 0); at != text.npos;
         std::tie(at, length) = find_mark(text, at + length))
        ++count;
    return count;
}

// The words of a message, those of different parts on lines of their own.
std::string all_words(const Message& message) {
    std::string text;
    bool first = true;
    for (const MessagePart& part : message.parts) {
        if (part.media >= 0) continue;
        if (!first && !text.ends_with('\n')) text += '\n';
        text += part.text;
        first = false;
    }
    return text;
}

// A user's turn as pieces: words are plain, pictures are control tokens.
class UserTurn {
  public:
    // `earlier` pictures came before in the conversation.
    UserTurn(const Message& message, std::span<const MediaTiles> media, int earlier)
        : message_(message), media_(media), number_(earlier) {
        for (const MessagePart& part : message.parts) {
            if (part.media < 0) continue;
            const bool video = media_of(part).video;
            videos_ += video;
            pictures_ += !video;
        }
        numbered_ = earlier > 0 || pictures_ > 1;
    }

    std::vector<Segment> segments(Placement placement) {
        if (placement == Placement::automatic) placement = choose();
        if (videos_ + pictures_ == 0 && placement != Placement::markers) {
            words(all_words(message_));
        } else if (placement == Placement::combined) {
            combined();
        } else if (placement == Placement::markers) {
            at_marks();
        } else if (placement == Placement::automatic) {
            for (const MessagePart& part : message_.parts)
                if (part.media >= 0) medium(part, false);
            words(all_words(message_));
        } else {
            in_place(placement == Placement::plain_marks);
        }
        return std::move(out_);
    }
    int pictures() const { return pictures_; }

  private:
    const MediaTiles& media_of(const MessagePart& part) const { return media_[size_t(part.media)]; }

    // What `automatic` means here; itself where all media go first.
    Placement choose() const {
        if (pictures_ > 0 && videos_ == 0 && count_marks_in(all_words(message_)) == pictures_)
            return Placement::markers;
        bool after_text = false, after_media = false, media_between = false, text_between = false;
        for (const MessagePart& part : message_.parts) {
            (part.media >= 0 ? media_between : text_between) |=
                part.media >= 0 ? after_text : after_media;
            (part.media >= 0 ? after_media : after_text) = true;
        }
        return media_between && text_between ? Placement::parts : Placement::automatic;
    }

    void words(const std::string& text) {
        out_.push_back({Segment::Kind::plain, text});
        if (!text.empty()) line_ended_ = text.ends_with('\n');
    }
    void picture(int tiles) {
        out_.push_back({Segment::Kind::control, picture_tokens(tiles, tokens_per_tile)});
        line_ended_ = false;
    }

    void medium(const MessagePart& part, bool plain_marks) {
        const MediaTiles& m = media_of(part);
        for (size_t i = 0; i < m.tiles.size(); ++i) {
            if (m.video && !plain_marks)
                words(fmt::format("Frame{}: ", i + 1));
            else if (!m.video && numbered_ && !plain_marks)
                words(fmt::format("Image-{}: ", ++number_));
            picture(m.tiles[i]);
            words("\n");
        }
    }

    void combined() {
        int all = 0;
        for (const MessagePart& part : message_.parts)
            if (part.media >= 0)
                for (const int tiles : media_of(part).tiles) all += tiles;
        picture(all);
        words("\n" + all_words(message_));
    }

    void at_marks() {
        const std::string text = all_words(message_);
        if (videos_ > 0 || count_marks_in(text) != pictures_)
            throw Error("a message needs one <image> for each picture and no video",
                        fmt::format("{}", pictures_), fmt::format("{}", count_marks_in(text)));
        size_t from = 0;
        for (const MessagePart& part : message_.parts) {
            if (part.media < 0) continue;
            const auto [at, length] = find_mark(text, from);
            words(text.substr(from, at - from));
            picture(media_of(part).tiles.at(0));
            from = at + length;
        }
        words(text.substr(from));
    }

    void in_place(bool plain_marks) {
        const MessagePart* before = nullptr;
        for (const MessagePart& part : message_.parts) {
            const bool new_line = before && (part.media >= 0 || before->media < 0);
            if (new_line && !line_ended_) words("\n");
            part.media >= 0 ? medium(part, plain_marks) : words(part.text);
            before = &part;
        }
    }

    const Message& message_;
    std::span<const MediaTiles> media_;
    int number_;
    int pictures_ = 0, videos_ = 0;
    bool numbered_ = false, line_ended_ = true;
    std::vector<Segment> out_;
};

// The messages of a conversation in the words of its template.
class Rendering {
  public:
    Rendering(const ChatTemplate& chat, const std::string& system) : chat_(chat) {
        control(chat.system_prefix);
        segments_.push_back({Segment::Kind::plain, system});
        control(chat.separator);
    }

    // The reference writes no separator after an empty message (spec 6.1).
    void message(const std::string& role, std::vector<Segment> body, bool closed = true) {
        control(role);
        if (std::ranges::all_of(body, [](const Segment& s) { return s.text.empty(); })) return;
        for (Segment& s : body) segments_.push_back(std::move(s));
        if (closed) control(chat_.separator);
    }
    void begin_answer() { control(chat_.assistant); }

    Prompt prompt(const Tokenizer& tokenizer, bool control_tokens) {
        Prompt prompt;
        for (Segment& s : segments_) {
            prompt.text += s.text;
            if (control_tokens) s.kind = Segment::Kind::control;
        }
        prompt.ids = tokenizer.encode(segments_);
        return prompt;
    }

  private:
    void control(const std::string& text) { segments_.push_back({Segment::Kind::control, text}); }
    const ChatTemplate& chat_;
    std::vector<Segment> segments_;
};

// Finds the pictures in the ids, one after the other: several may stand in one run of rows.
void find_places(Prompt& prompt, const Tokenizer& tokenizer, std::span<const int> tiles) {
    const int row = tokenizer.find("<IMG_CONTEXT>").value_or(-1);
    size_t at = 0;
    for (const int count : tiles) {
        at = size_t(std::find(prompt.ids.begin() + long(at), prompt.ids.end(), row) -
                    prompt.ids.begin());
        prompt.places.push_back({at, count});
        at = std::min(prompt.ids.size(), at + size_t(count) * tokens_per_tile);
    }
}

}  // namespace

int64_t Prompt::image_tokens() const {
    int64_t tiles = 0;
    for (const PicturePlace& p : places) tiles += p.tiles;
    return tiles * tokens_per_tile;
}

int count_marks(const Message& message) {
    return count_marks_in(all_words(message));
}

Prompt build_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat, const std::string& system,
                    std::span<const Message> messages, std::span<const MediaTiles> media,
                    const PromptOptions& options) {
    using Role = Message::Role;
    const bool own = !messages.empty() && messages[0].role == Role::system;
    Rendering all(chat, own ? all_words(messages[0]) : system);
    std::vector<int> tiles;
    int pictures = 0;
    bool open = false;  // the answer has been begun
    for (const Message& m : messages.subspan(own)) {
        if (m.role == Role::user) {
            UserTurn turn(m, media, pictures);
            all.message(chat.user, turn.segments(options.placement));
            pictures += turn.pictures();
            for (const MessagePart& part : m.parts)
                if (part.media >= 0)
                    std::ranges::copy(media[size_t(part.media)].tiles, std::back_inserter(tiles));
            continue;
        }
        open = options.continue_last && &m == &messages.back();
        all.message(chat.assistant, {{Segment::Kind::plain, all_words(m)}}, !open);
    }
    if (!open) all.begin_answer();
    Prompt prompt = all.prompt(tokenizer, options.control_tokens);
    find_places(prompt, tokenizer, tiles);
    return prompt;
}

Prompt plain_prompt(const Tokenizer& tokenizer, const std::string& text, bool begin,
                    bool control_tokens) {
    const Segment all{control_tokens ? Segment::Kind::control : Segment::Kind::plain, text};
    return {text, tokenizer.encode({&all, 1}, begin)};
}

// The pictures of a question as media: frames that count up belong to one video.
static Message to_message(const Exchange& turn, std::vector<MediaTiles>& media) {
    Message message;
    for (const PictureSlot& p : turn.pictures) {
        if (p.frame > 1 && !message.parts.empty() && media.back().video) {
            media.back().tiles.push_back(p.tiles);
            continue;
        }
        message.parts.push_back({"", int(media.size())});
        media.push_back({{p.tiles}, p.frame > 0});
    }
    message.parts.push_back({turn.question});
    return message;
}

Prompt build_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat, const std::string& system,
                    std::span<const Exchange> turns) {
    Rendering all(chat, system);
    std::vector<MediaTiles> media;
    std::vector<int> tiles;
    int pictures = 0;
    for (const Exchange& exchange : turns) {
        const Message message = to_message(exchange, media);
        UserTurn turn(message, media, pictures);
        all.message(chat.user,
                    turn.segments(exchange.combine ? Placement::combined : Placement::automatic));
        all.message(chat.assistant, {{Segment::Kind::plain, exchange.answer.value_or("")}});
        pictures += turn.pictures();
        for (const PictureSlot& p : exchange.pictures) tiles.push_back(p.tiles);
    }
    Prompt prompt = all.prompt(tokenizer, false);
    find_places(prompt, tokenizer, tiles);
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
