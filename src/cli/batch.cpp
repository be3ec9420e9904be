#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/clock.h"
#include "base/digest.h"
#include "base/error.h"
#include "cli/common.h"
#include "serve/openai.h"

namespace internvl::cli {

namespace {

using Json = nlohmann::ordered_json;

struct BatchFlags {
    ModelOptions model;
    GenerationFlags generation;
    PictureFlags picture;
    VideoFlags video;
    std::string in, out;
    int max_sequences = 8;
    bool restart = false, quiet = false;
};

// Lines of a file one after the other; empty ones do not count.
class LineReader {
  public:
    explicit LineReader(const std::string& path) : path_(path), in_(path, std::ios::binary) {
        if (!in_) throw Error("cannot open file", "a JSONL file", "", path);
    }
    bool next(std::string& text) {
        while (std::getline(in_, text)) {
            ++number_;
            if (text.find_first_not_of(" \t\r") != text.npos) return true;
        }
        if (in_.bad()) throw Error("cannot read file", "", "", path_);
        return false;
    }
    int64_t number() const { return number_; }

  private:
    std::string path_;
    std::ifstream in_;
    int64_t number_ = 0;
};

// null when the line names none.
Json id_of(const std::string& line) {
    const nlohmann::json parsed = nlohmann::json::parse(line, nullptr, false);
    return parsed.is_object() && parsed.contains("custom_id") && parsed["custom_id"].is_string()
               ? Json(parsed["custom_id"].get<std::string>())
               : Json();
}

// The output: answers in the order of the input, so that what is there tells what is missing.
class Output {
  public:
    // What an earlier run left is kept, but for a line that it did not finish.
    Output(const std::string& path, bool restart) : path_(path) {
        fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (restart ? O_TRUNC : 0), 0644);
        if (fd_ < 0) throw Error("cannot open file", "", std::strerror(errno), path);
    }
    ~Output() { ::close(fd_); }
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    // The finished lines, checked against those of the input one by one.
    int64_t keep_finished(LineReader& input) {
        std::ifstream done(path_, std::ios::binary);
        std::string line, asked;
        int64_t count = 0, end = 0;
        while (std::getline(done, line) && !done.eof()) {
            if (!input.next(asked) || id_of(asked) != id_of(line))
                throw Error("the output belongs to another input",
                            asked.empty() ? "fewer lines" : id_of(asked).dump(), id_of(line).dump(),
                            fmt::format("{}, line {}; --restart begins anew", path_, count + 1));
            ++count;
            end += int64_t(line.size()) + 1;
        }
        if (::ftruncate(fd_, end) != 0 || ::lseek(fd_, end, SEEK_SET) != end)
            throw Error("cannot continue file", "", std::strerror(errno), path_);
        return count;
    }

    void write(const Json& object) {
        const std::string line =
            object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
        for (size_t at = 0; at < line.size();) {
            const ssize_t n = ::write(fd_, line.data() + at, line.size() - at);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) throw Error("cannot write file", "", std::strerror(errno), path_);
            at += size_t(n);
        }
    }

  private:
    std::string path_;
    int fd_;
};

// A line's place in the output, empty until it is answered.
struct Slot {
    std::string number;  // the same whenever the line is asked
    Json custom_id, line;

    void answer(int status, Json body) {
        line = {{"id", "batch_req_" + number},
                {"custom_id", custom_id},
                {"response",
                 {{"status_code", status}, {"request_id", "req_" + number}, {"body", body}}},
                {"error", nullptr}};
    }
};

// The run: reads ahead a little, answers together, writes in order.
class BatchRun {
  public:
    BatchRun(const BatchFlags& flags, Model& model)
        : flags_(flags),
          dialogues_(model, {.max_sequences = flags.max_sequences}),
          input_(flags.in),
          output_(flags.out, flags.restart) {
        defaults_.generate = flags.generation.resolved(false);
        defaults_.image = flags.picture.resolved();
        defaults_.video = flags.video.resolved(flags.picture);
        defaults_.folder = std::filesystem::path(flags.in).parent_path().string();
        if (defaults_.folder.empty()) defaults_.folder = ".";
        struct stat info {};
        if (::stat(flags.in.c_str(), &info) == 0) created_ = info.st_mtime;
        LineReader count(flags.in);
        for (std::string line; count.next(line);) ++total_;
    }

    int run() {
        done_ = output_.keep_finished(input_);
        const int64_t before = done_;
        if (before > 0 && !flags_.quiet)
            fmt::print(stderr, "{} of {} lines are there already\n", before, total_);
        for (bool more = true; more || !slots_.empty();) {
            while (more && dialogues_.unfinished() < 2 * flags_.max_sequences) more = read_line();
            dialogues_.step();
            if (interrupted()) return 130;
            write_ready();
            show_progress(before);
        }
        if (!flags_.quiet)
            fmt::print(stderr, "{}{} lines, {} answered, {} failed\n",
                       isatty(STDERR_FILENO) ? "\r\033[K" : "", total_, total_ - failed_, failed_);
        return failed_ > 0 ? 1 : 0;
    }

  private:
    // Takes the next line up; false at the end of the input.
    bool read_line() {
        std::string text;
        if (!input_.next(text)) return false;
        auto slot = std::make_shared<Slot>();
        slot->number = sha256_hex(text.data(), text.size()).substr(0, 24);
        slot->custom_id = id_of(text);
        slots_.push_back(slot);
        try {
            const FileRequest request = parse_line(text);
            const auto answered = [this, slot, model = request.model,
                                   with_ids = request.return_token_ids](const Result& r,
                                                                        const std::string* error) {
                if (error) return fail(*slot, RequestError("internal_error", "", *error));
                const std::string id = "chatcmpl-" + slot->number;
                slot->answer(200, chat_completion(r, {model, id, created_, with_ids}));
            };
            request.conversation.add_to(dialogues_, answered);
        } catch (const RequestError& e) {
            fail(*slot, e);
        } catch (const Error& e) {
            fail(*slot, {"invalid_value", "", e.what()});
        }
        return true;
    }

    void fail(Slot& slot, const RequestError& e) {
        ++failed_;
        slot.answer(e.status, error_body(e));
    }

    FileRequest parse_line(const std::string& text) const {
        nlohmann::json line;
        try {
            line = parse_json(text, fmt::format("line {}", input_.number()));
        } catch (const Error& e) {
            throw RequestError("invalid_json", "", e.what());
        }
        const bool whole = line.is_object() && line.contains("body");
        if (whole && line.contains("url") && line["url"] != "/v1/chat/completions")
            throw RequestError("unsupported_endpoint", "url",
                               "url must be /v1/chat/completions, found " + line["url"].dump());
        return parse_file_request(whole ? line["body"] : line, defaults_);
    }

    void write_ready() {
        for (; !slots_.empty() && !slots_.front()->line.is_null(); ++done_) {
            output_.write(slots_.front()->line);
            slots_.pop_front();
        }
    }

    void show_progress(int64_t before) {
        if (flags_.quiet || !isatty(STDERR_FILENO) || shown_.ms() < 200) return;
        shown_.lap();
        const double each = done_ > before ? watch_.ms() / double(done_ - before) : 0;
        fmt::print(stderr, "\r\033[K{} of {} lines", done_, total_);
        if (each > 0) fmt::print(stderr, ", {:.0f} s to go", each * double(total_ - done_) / 1000);
        std::fflush(stderr);
    }

    const BatchFlags& flags_;
    Dialogues dialogues_;
    LineReader input_;
    Output output_;
    FileDefaults defaults_;
    std::deque<std::shared_ptr<Slot>> slots_;  // of lines that are not written, in order
    int64_t created_ = 0, total_ = 0, done_ = 0, failed_ = 0;
    Stopwatch watch_, shown_;
};

int batch(const BatchFlags& flags) {
    flags.model.check();
    flags.generation.resolved(false);  // refuse before the model is loaded
    flags.video.resolved(flags.picture);
    LineReader check(flags.in);
    Model model(flags.model.model, flags.model.for_compat(false));
    stop_on_interrupt(&model);
    const int status = BatchRun(flags, model).run();
    stop_on_interrupt(nullptr);
    return status;
}

}  // namespace

Run declare_batch(CLI::App& app) {
    auto flags = std::make_shared<BatchFlags>();
    flags->model.declare(app, true);
    flags->model.declare_caches(app);
    app.get_option("model")->required();
    app.add_option("in", flags->in, "Requests, one JSON object a line (OpenAI batch format)")
        ->type_name("IN.jsonl")
        ->required();
    app.add_option("out", flags->out, "Answers, in the same order; continued when it is there")
        ->type_name("OUT.jsonl")
        ->required();
    app.add_option("--max-sequences", flags->max_sequences, "Answers in the making at a time")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    app.add_flag("--restart", flags->restart, "Forget what OUT.jsonl holds");
    app.add_flag("--quiet", flags->quiet, "No progress on stderr");
    flags->picture.declare(app);
    flags->video.declare(app);
    flags->generation.declare(app);
    return [flags] { return batch(*flags); };
}

}  // namespace internvl::cli
