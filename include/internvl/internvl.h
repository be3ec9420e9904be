#pragma once
// internvl.cpp: InternVL2 vision-language models from C++.
//
//     internvl::Model model("OpenGVLab/InternVL2-1B");
//     internvl::Chat chat(model);
//     std::cout << chat.ask("What is in the picture?", {internvl::Photo::open("cat.jpg")}).text;
//
// Mistakes of the caller and of outside data are thrown as std::runtime_error with one line that
// says what was expected, what was found and where. A Model may be shared by chats of one thread;
// it is not thread-safe.

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "internvl/options.h"

namespace internvl {

// A decoded picture.
class Photo {
  public:
    static Photo open(const std::string& path, const ImageOptions& = {});
    // The bytes of a JPEG, PNG, WebP, ... file.
    static Photo decode(std::span<const std::byte> file, const ImageOptions& = {});
    // width * height * 3 bytes, rows from the top.
    static Photo from_rgb(std::span<const std::byte> rgb, int width, int height,
                          const ImageOptions& = {});
    // Several, with at most `total_max_num` tiles together, thumbnails included (0 = no limit): the
    // pictures with the most tiles are cut into fewer. `options` has one entry for each.
    static std::vector<Photo> open_all(const std::vector<std::string>& paths,
                                       const std::vector<ImageOptions>& options, int total_max_num);

    int width() const;
    int height() const;
    std::pair<int, int> grid() const;  // columns, rows
    int tiles() const;                 // with the thumbnail; 256 tokens each

    struct Data;
    const std::shared_ptr<const Data>& data() const { return data_; }

  private:
    std::shared_ptr<const Data> data_;
};

// Frames of a decoded clip.
class Video {
  public:
    static Video open(const std::string& path, const VideoOptions& = {});
    // The bytes of an MP4, Matroska, WebM, ... file.
    static Video decode(std::span<const std::byte> file, const VideoOptions& = {});

    const std::vector<int64_t>& frames() const;  // which of the clip's frames
    int64_t frame_count() const;                 // of the clip
    double fps() const;
    int width() const;
    int height() const;
    int tiles() const;  // of all frames; 256 tokens each

    struct Data;
    const std::shared_ptr<const Data>& data() const { return data_; }

  private:
    std::shared_ptr<const Data> data_;
};

// What a question may be about.
using Media = std::variant<Photo, Video>;

// A loaded model.
class Model {
  public:
    // `name`: a folder in the released layout, a repository id in the Hugging Face cache, or
    // "demo".
    explicit Model(const std::string& name, const LoadOptions& = {});

    int64_t parameters() const;
    std::string dtype() const;  // "bf16" or "fp32": what it computes in
    double load_ms() const;
    int count_tokens(std::string_view text) const;
    // Ends the answer in the making, soon; may be called from a signal handler or another thread.
    void cancel();

    struct Data;
    Data& data() const { return *data_; }

  private:
    std::shared_ptr<Data> data_;
};

struct Result {
    std::string text;
    std::vector<int> ids;       // of the answer
    std::string finish_reason;  // "stop", "length" or "cancelled"
    std::string prompt;
    std::vector<int> prompt_ids;
    int image_tokens = 0;
    int computed_tiles = 0;  // that had to pass through the vision tower; others were known
    int cached_tokens = 0;   // of the prompt, whose keys and values were known
    double vision_ms = 0, prefill_ms = 0, first_token_ms = 0, per_token_ms = 0;
};

struct ChatOptions {
    std::string system;    // "" = the model's own
    bool combine = false;  // all pictures of a question under one <image>
    bool compat_reference =
        false;  // the card's chat() to the letter: <image> marks in questions are placeholders
    std::function<void(int done, int tiles)> on_tiles;  // heard while a picture is looked at
};

// A conversation: each question is answered with the whole history in view.
class Chat {
  public:
    explicit Chat(const Model&, const ChatOptions& = {});

    // New media belong to this question, in this order. `on_text` hears the answer as it is made,
    // in whole characters; returning false ends it.
    Result ask(const std::string& question, const std::vector<Media>& media = {},
               const GenerateOptions& = {},
               const std::function<bool(std::string_view)>& on_text = {});
    void reset();

  private:
    struct Data;
    std::shared_ptr<Data> data_;
};

// A question with its media, and the answer once there is one.
struct Round {
    std::string question;
    std::vector<Media> media = {};
    std::optional<std::string> answer = {};
};

// A conversation that waits for the answer to its last round.
struct Dialogue {
    std::vector<Round> rounds;
    GenerateOptions generate = {};
    std::string system = {};  // "" = the model's own
    bool combine = false;
};

struct BatchOptions {
    int max_sequences = 8;          // answers in the making at a time
    bool compat_reference = false;  // the card's batch_chat() to the letter: all in step
};

// Answers many conversations together. Each answer is the one that it would have alone.
class Dialogues {
  public:
    explicit Dialogues(const Model&, const BatchOptions& = {});

    // Throws, and takes nothing, when the dialogue cannot be answered. `on_result` hears the
    // answer, or the reason why there is none.
    void add(const Dialogue&, std::function<void(Result, const std::string* error)> on_result);
    bool step();             // some work; false when nothing is left
    int unfinished() const;  // dialogues without an answer

  private:
    friend struct Conversation;  // of the program's own requests
    struct Data;
    std::shared_ptr<Data> data_;
};

// The same for a list: answers in its order. Throws the first error.
std::vector<Result> answer_all(const Model&, const std::vector<Dialogue>&,
                               const BatchOptions& = {});

}  // namespace internvl
