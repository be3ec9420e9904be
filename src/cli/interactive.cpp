#include "cli/interactive.h"

#include <histedit.h>

#include <cstdio>
#include <fstream>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "engine/prompt.h"

namespace internvl::cli {

namespace {

const char help[] =
    "  /image FILE    add a picture to the next question\n"
    "  /video FILE    add a video to the next question\n"
    "  /system TEXT   another system message; the conversation starts anew\n"
    "  /reset         forget the conversation\n"
    "  /save FILE     write the conversation as JSON\n"
    "  /help          this list\n"
    "  Ctrl-C stops an answer, Ctrl-D leaves.\n";

char* prompt_text(EditLine*) {
    static char text[] = "> ";
    return text;
}

// The line editor with its history.
class Lines {
  public:
    Lines() : editor_(el_init("internvl", stdin, stdout, stderr)), history_(history_init()) {
        HistEvent event;
        history(history_, &event, H_SETSIZE, 1000);
        el_set(editor_, EL_PROMPT, prompt_text);
        el_set(editor_, EL_EDITOR, "emacs");
        el_set(editor_, EL_SIGNAL, 1);
        el_set(editor_, EL_HIST, history, history_);
        el_source(editor_, nullptr);
    }
    ~Lines() {
        history_end(history_);
        el_end(editor_);
    }
    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;

    // The next line without its end; false when the user leaves.
    bool next(std::string& line) {
        int count = 0;
        const char* text = el_gets(editor_, &count);
        if (!text || count <= 0) {
            if (!interrupted()) return false;
            line.clear();  // Ctrl-C at the prompt drops the line
            std::puts("");
            return true;
        }
        line.assign(text, size_t(count));
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
        HistEvent event;
        if (!line.empty()) history(history_, &event, H_ENTER, line.c_str());
        return true;
    }

  private:
    EditLine* editor_;
    History* history_;
};

class Talk {
  public:
    Talk(Model& model, const InteractiveOptions& options)
        : model_(model), options_(options), chat_(std::make_unique<Chat>(model, options.chat)) {
        add({options.media.images, options.media.videos});
    }

    void line(const std::string& text) {
        const size_t space = text.find(' ');
        const std::string word = text.substr(0, space);
        const std::string rest = space == text.npos ? "" : text.substr(space + 1);
        if (text.empty()) return;
        if (text[0] != '/') return ask(text);
        if (word == "/image") return add({{rest}, {}});
        if (word == "/video") return add({{}, {rest}});
        if (word == "/system") return restart(rest);
        if (word == "/reset") return restart(options_.chat.system);
        if (word == "/save") return save(rest);
        std::fputs(word == "/help" ? "" : ("no command " + word + "\n").c_str(), stdout);
        std::fputs(help, stdout);
    }

  private:
    void ask(const std::string& question) {
        const Result r =
            chat_->ask(question, media_, options_.generate, [](std::string_view piece) {
                std::fwrite(piece.data(), 1, piece.size(), stdout);
                std::fflush(stdout);
                return true;
            });
        std::puts(r.finish_reason == "cancelled" ? " [stopped]" : "");
        media_.clear();
        history_.push_back({{"question", question}, {"answer", r.text}});
    }

    // Pictures and videos by name, opened as the command line says.
    struct Files {
        std::vector<std::string> images, videos;
    };
    void add(const Files& files) {
        MediaFlags flags = options_.media;
        flags.images = files.images;
        flags.videos = files.videos;
        for (Media& m : flags.open()) {
            if (const Photo* p = std::get_if<Photo>(&m))
                std::printf("%d x %d, %d tiles, %d tokens\n", p->width(), p->height(), p->tiles(),
                            tokens_per_tile * p->tiles());
            if (const Video* v = std::get_if<Video>(&m))
                std::printf("%zu of %lld frames, %d tokens\n", v->frames().size(),
                            static_cast<long long>(v->frame_count()), tokens_per_tile * v->tiles());
            media_.push_back(std::move(m));
        }
    }

    void restart(const std::string& system) {
        options_.chat.system = system;
        chat_ = std::make_unique<Chat>(model_, options_.chat);
        media_.clear();
        history_ = nlohmann::ordered_json::array();
    }

    void save(const std::string& file) {
        std::ofstream out(file);
        out << history_.dump(2) << '\n';
        out.close();
        if (!out) throw Error("cannot write file", "", "", file);
        std::printf("%zu rounds written to %s\n", history_.size(), file.c_str());
    }

    Model& model_;
    InteractiveOptions options_;
    std::unique_ptr<Chat> chat_;
    std::vector<Media> media_;
    nlohmann::ordered_json history_ = nlohmann::ordered_json::array();
};

}  // namespace

int talk(Model& model, const InteractiveOptions& options) {
    std::fputs("Ask, or /help.\n", stdout);
    Lines lines;
    Talk talk(model, options);
    for (std::string line; lines.next(line); clear_interrupt()) {
        clear_interrupt();
        try {
            talk.line(line);
        } catch (const Error& e) {
            std::fprintf(stderr, "%s\n", e.what());
        }
    }
    std::puts("");
    return 0;
}

}  // namespace internvl::cli
