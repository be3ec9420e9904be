#pragma once
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/prompt.h"

namespace internvl {

// A picture of a conversation: its tiles, and its rows once the vision tower has seen it.
struct Picture {
    Tiles tiles;
    Tensor rows;
};

struct Reply {
    Prompt prompt;
    std::vector<int> ids;  // as generated, the stop token included
    std::string text;      // decoded without special tokens, cut at the stop text, stripped
    Answer::End end = Answer::End::length;
    int image_tokens = 0;
    double vision_ms = 0, prefill_ms = 0, decode_ms = 0;
};

// A conversation with one model. Each question sees the whole history; a picture passes the vision
// tower once.
class Session {
  public:
    // `reference`: exactly the card's chat(), with its <image> marks and control strings (cli.md,
    // --compat reference).
    Session(Engine&, std::string system, bool reference);

    // New pictures belong to this question. `on_text` hears every piece of the answer as soon as it
    // is certain; false ends the answer. With `combine`, all pictures stand under one mark. A
    // cancelled answer stays in the history.
    Reply ask(const std::string& question, std::vector<Picture> pictures, const GenerateOptions&,
              bool combine = false, const std::function<bool(std::string_view)>& on_text = {});

    std::function<void(int done, int tiles)> on_tiles;  // heard while a picture is looked at
    const std::vector<Exchange>& history() const { return turns_; }
    void reset();

  private:
    Prompt prompt() const;
    Tensor picture_rows();

    Engine& engine_;
    std::string system_;
    bool reference_;
    std::vector<Exchange> turns_;
    std::vector<Picture> pictures_;  // of all turns, in order
};

}  // namespace internvl
