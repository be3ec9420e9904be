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
#include <span>
#include <string>
#include <string_view>
#include <utility>
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

    int width() const;
    int height() const;
    std::pair<int, int> grid() const;  // columns, rows
    int tiles() const;                 // with the thumbnail; 256 tokens each

    struct Data;
    const Data& data() const { return *data_; }

  private:
    std::shared_ptr<const Data> data_;
};

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

    // `on_text` hears the answer as it is made, in whole characters; returning false ends it.
    Result ask(const std::string& question, const std::vector<Photo>& photos = {},
               const GenerateOptions& = {},
               const std::function<bool(std::string_view)>& on_text = {});
    void reset();

  private:
    struct Data;
    std::shared_ptr<Data> data_;
};

}  // namespace internvl
