#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/answer_text.h"
#include "engine/engine.h"
#include "engine/prompt.h"

namespace internvl {

// A picture of a conversation, or a frame of a video: its tiles, and its rows once the vision tower
// has seen it.
struct Picture {
    std::shared_ptr<const Tiles> tiles;
    int frame = 0;  // from 1 in each video, 0 for a picture
    PictureRows seen = {};
};

struct Reply {
    Prompt prompt;
    std::vector<int> ids;  // as generated, the stop token included
    std::string text;      // decoded without special tokens, cut at the stop text, stripped
    Answer::End end = Answer::End::length;
    double score = 0;  // of the best beam
    int image_tokens = 0;
    int computed_tiles = 0;  // that had to pass through the vision tower
    int cached_tokens = 0;   // of the prompt, whose keys and values were known
    double vision_ms = 0, prefill_ms = 0, decode_ms = 0;
};

// A question on its way to an answer.
struct Task {
    Prompt prompt;
    Generation generation;             // without the rows of pictures
    std::shared_ptr<AnswerText> text;  // hears generation.on_token
};

// A conversation with one model. Each question sees the whole history; a picture passes the vision
// tower once.
class Session {
  public:
    // `reference`: exactly the card's chat() on one instance of the reference, with its <image>
    // marks, control strings and rotary tables (cli.md, --compat reference).
    Session(Engine&, std::string system, bool reference);

    using OnText = std::function<bool(std::string_view)>;
    // New pictures belong to this question. `on_text` hears every piece of the answer as soon as it
    // is certain; false ends the answer. With `combine`, all pictures stand under one mark. A
    // cancelled answer stays in the history.
    Reply ask(const std::string& question, std::vector<Picture> pictures, const GenerateOptions&,
              bool combine = false, const OnText& on_text = {});

    // The parts of ask, for those who answer several sessions together. A round that is known:
    void recall(const std::string& question, std::vector<Picture> pictures, bool combine,
                const std::string& answer);
    // A new one; throws Error, and forgets it, when its prompt does not fit. Its pictures are
    // either left to a StepLoop (unseen), or pass see() before the answer is made with
    // picture_rows().
    Task begin(const std::string& question, std::vector<Picture> pictures, const GenerateOptions&,
               bool combine, const OnText& on_text);
    // A whole conversation that is not gone on with; `pictures` are those of the media, in order.
    Task begin(std::span<const Message>, std::span<const MediaTiles>, std::vector<Picture> pictures,
               const GenerateOptions&, const PromptOptions&);
    Reply finish(Task&, Answer);  // enters the answer into the history
    void forget_last();           // the question could not be answered: as if it had not been asked
    // Shows the pictures of several sessions that were not seen yet to the vision tower, together.
    static void see(Engine&, std::span<Session* const>, const Engine::OnTiles& = {});
    PictureRows picture_rows();  // of all pictures, one below the other
    std::vector<std::shared_ptr<const Tiles>> unseen() const;  // all pictures

    Engine::OnTiles on_tiles;  // heard while a picture is looked at
    const std::vector<Exchange>& history() const { return turns_; }
    void reset();

  private:
    void add(const std::string& question, std::vector<Picture> pictures, bool combine);
    Prompt prompt() const;
    Task make_task(Prompt, const GenerateOptions&, const OnText&) const;

    Engine& engine_;
    std::string system_;
    std::unique_ptr<ReferenceRope> reference_;  // null: the engine's own way
    std::vector<Exchange> turns_;
    std::vector<Picture> pictures_;  // of all turns, in order
};

}  // namespace internvl
