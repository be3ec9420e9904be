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
        for (const std::string& file : options.images) add_image(file);
    }

    void line(const std::string& text) {
        const size_t space = text.find(' ');
        const std::string word = text.substr(0, space);
        const std::string rest = space == text.npos ? "" : text.substr(space + 1);
        if (text.empty()) return;
        if (text[0] != '/') return ask(text);
        if (word == "/image") return add_image(rest);
        if (word == "/system") return restart(rest);
        if (word == "/reset") return restart(options_.chat.system);
        if (word == "/save") return save(rest);
        std::fputs(word == "/help" ? "" : ("no command " + word + "\n").c_str(), stdout);
        std::fputs(help, stdout);
    }

  private:
    void ask(const std::string& question) {
        const Result r =
            chat_->ask(question, photos_, options_.generate, [](std::string_view piece) {
                std::fwrite(piece.data(), 1, piece.size(), stdout);
                std::fflush(stdout);
                return true;
            });
        std::puts(r.finish_reason == "cancelled" ? " [stopped]" : "");
        photos_.clear();
        history_.push_back({{"question", question}, {"answer", r.text}});
    }

    void add_image(const std::string& file) {
        photos_.push_back(Photo::open(file, options_.image));
        const Photo& p = photos_.back();
        std::printf("%s: %d x %d, %d tiles, %d tokens\n", file.c_str(), p.width(), p.height(),
                    p.tiles(), tokens_per_tile * p.tiles());
    }

    void restart(const std::string& system) {
        options_.chat.system = system;
        chat_ = std::make_unique<Chat>(model_, options_.chat);
        photos_.clear();
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
    std::vector<Photo> photos_;
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
