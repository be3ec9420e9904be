// Conversations of any shape, as rounds and as messages: a prompt has a place for every row of its
// pictures, and what a user typed brings no control token and no place of its own.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "base/error.h"
#include "engine/prompt.h"

using namespace internvl;

namespace {

// A family's tokenizer and template from the tests' folders.
struct Family {
    Tokenizer tokenizer;
    const ChatTemplate* chat;
    std::vector<int> control;  // ids that only the template may give
};

std::optional<std::string> read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return std::nullopt;
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

const std::vector<Family>& families() {
    static const std::vector<Family> all = [] {
        std::vector<Family> list;
        for (const auto& [name, chat] :
             {std::pair("tiny-1b", "Hermes-2"), std::pair("tiny-2b", "internlm2-chat"),
              std::pair("tiny-4b", "phi3-chat"), std::pair("tiny-40b", "Hermes-2")}) {
            const std::string folder = std::string(INTERNVL_CHECKPOINTS) + "/" + name;
            Family f{
                Tokenizer::load([&](const std::string& file) { return read(folder + "/" + file); },
                                folder),
                &find_template(chat),
                {}};
            for (const char* token : {"<img>", "</img>", "<IMG_CONTEXT>"})
                f.control.push_back(f.tokenizer.find(token).value());
            f.control.push_back(f.tokenizer.find(f.chat->stop).value());
            list.push_back(std::move(f));
        }
        return list;
    }();
    return all;
}

// Hands out the input piece by piece.
struct Input {
    const uint8_t* data;
    size_t size;

    int number(int below) {
        if (size == 0) return 0;
        --size;
        return *data++ % below;
    }
    std::string text() {
        const size_t length = std::min(size, size_t(number(256)));
        std::string t(reinterpret_cast<const char*>(data), length);
        data += length;
        size -= length;
        return t;
    }
};

void check(const Family& f, const std::vector<Exchange>& turns, const std::string& system) {
    const Prompt p = build_prompt(f.tokenizer, *f.chat, system, turns);
    std::vector<Exchange> silent = turns;  // the same pictures, without a word
    int64_t tiles = 0, pictures = 0;
    for (Exchange& turn : silent) {
        for (const PictureSlot& slot : turn.pictures) tiles += slot.tiles;
        pictures += turn.combine ? !turn.pictures.empty() : int64_t(turn.pictures.size());
        turn.question = "a";
        if (turn.answer) turn.answer = "b";
    }
    const auto count = [&](const Prompt& in, int id) { return std::ranges::count(in.ids, id); };
    if (count(p, f.control[2]) != tiles * tokens_per_tile) __builtin_trap();
    if (count(p, f.control[0]) != pictures || count(p, f.control[1]) != pictures) __builtin_trap();
    const Prompt plain = build_prompt(f.tokenizer, *f.chat, "s", silent);
    // An empty question or answer has no separator.
    if (count(p, f.control[3]) > count(plain, f.control[3])) __builtin_trap();
}

// The same words and pictures as messages, in any place and with any placement: pictures have their
// rows where the prompt says, and words have none.
void check_messages(const Family& f, const std::vector<Exchange>& turns, Input& in) {
    std::vector<Message> messages;
    std::vector<MediaTiles> media;
    for (const Exchange& turn : turns) {
        Message user;
        for (const PictureSlot& slot : turn.pictures) {
            if (in.number(2)) user.parts.push_back({turn.question});
            user.parts.push_back({"", int(media.size())});
            media.push_back({std::vector<int>(size_t(1 + slot.frame), slot.tiles), slot.frame > 0});
        }
        user.parts.push_back({turn.question});
        messages.push_back(std::move(user));
        if (turn.answer) messages.push_back({Message::Role::assistant, {{*turn.answer}}});
    }
    PromptOptions options;
    options.placement = Placement(in.number(5));
    options.continue_last = in.number(2) == 0;
    Prompt p;
    try {
        p = build_prompt(f.tokenizer, *f.chat, "s", messages, media, options);
    } catch (const Error&) {
        if (options.placement != Placement::markers) __builtin_trap();
        return;
    }
    int64_t rows = 0;
    for (const PicturePlace& place : p.places)
        for (size_t i = 0; i < size_t(place.tiles) * tokens_per_tile; ++i, ++rows)
            if (p.ids.at(place.first + i) != f.control[2]) __builtin_trap();
    if (rows != p.image_tokens() || rows != std::ranges::count(p.ids, f.control[2]))
        __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in{data, size};
    const Family& f = families()[size_t(in.number(int(families().size())))];
    const std::string system = in.text();
    std::vector<Exchange> turns(size_t(1 + in.number(4)));
    for (Exchange& turn : turns) {
        turn.question = in.text();
        turn.combine = in.number(4) == 0;
        const int pictures = in.number(4);
        for (int i = 0; i < pictures; ++i)
            turn.pictures.push_back({1 + in.number(3), in.number(3)});
        if (&turn != &turns.back()) turn.answer = in.text();
    }
    check(f, turns, system);
    check_messages(f, turns, in);
    std::vector<Turn> reference;
    std::vector<int> tiles;
    for (const Exchange& turn : turns) {
        reference.push_back({turn.question, turn.answer});
        for (const PictureSlot& slot : turn.pictures) tiles.push_back(slot.tiles);
    }
    build_reference_prompt(f.tokenizer, *f.chat, system, reference, tiles);
    return 0;
}
