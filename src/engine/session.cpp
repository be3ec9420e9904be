#include "engine/session.h"

#include "base/clock.h"
#include "engine/answer_text.h"
#include "text/utf8.h"

namespace internvl {

Session::Session(Engine& engine, std::string system, bool reference)
    : engine_(engine), system_(std::move(system)), reference_(reference) {}

void Session::reset() {
    turns_.clear();
    pictures_.clear();
}

// What the reference replaces its marks by: one entry per picture, or one for all (spec 6.2 step
// 4).
static std::vector<int> reference_tiles(std::span<const Exchange> turns) {
    std::vector<int> entries;
    for (const Exchange& turn : turns) {
        int all = 0;
        for (const int n : turn.tiles) all += n;
        if (turn.combine && all > 0) entries.push_back(all);
        if (!turn.combine) entries.insert(entries.end(), turn.tiles.begin(), turn.tiles.end());
    }
    return entries;
}

Prompt Session::prompt() const {
    const ChatTemplate& chat = engine_.chat_template();
    if (!reference_) return build_prompt(engine_.tokenizer(), chat, system_, turns_);
    std::vector<Turn> turns;
    for (const Exchange& turn : turns_) turns.push_back({turn.question, turn.answer});
    return build_reference_prompt(engine_.tokenizer(), chat, system_, turns,
                                  reference_tiles(turns_));
}

// Rows of all pictures of the conversation, one below the other; absent without pictures.
Tensor Session::picture_rows() {
    int64_t count = 0;
    for (Picture& p : pictures_) {
        if (!p.rows) p.rows = engine_.encode(p.tiles, on_tiles);
        count += p.rows.dim[0];
    }
    if (count == 0) return {};
    if (pictures_.size() == 1) return pictures_[0].rows;
    Tensor all = make_tensor(pictures_[0].rows.dtype, {count, pictures_[0].rows.dim[1]});
    int64_t at = 0;
    for (const Picture& p : pictures_) {
        copy(engine_.context(), p.rows, all.slice(0, at, p.rows.dim[0]));
        at += p.rows.dim[0];
    }
    return all;
}

Reply Session::ask(const std::string& question, std::vector<Picture> pictures,
                   const GenerateOptions& options, bool combine,
                   const std::function<bool(std::string_view)>& on_text) {
    Exchange turn{question, {}, combine, std::nullopt};
    for (const Picture& p : pictures) turn.tiles.push_back(p.tiles.count);
    // The reference puts a mark where the user wrote none, in a first question only (spec 6.2 step
    // 1).
    if (reference_ && turns_.empty() && !pictures.empty() &&
        question.find("<image>") == question.npos)
        turn.question = "<image>\n" + question;
    turns_.push_back(turn);
    const size_t earlier = pictures_.size();
    for (Picture& p : pictures) pictures_.push_back(std::move(p));
    try {
        Reply reply;
        reply.prompt = prompt();
        Stopwatch watch;
        Generation g;
        g.prompt = reply.prompt.ids;
        g.picture_rows = picture_rows();
        g.options = options;
        reply.image_tokens = g.picture_rows ? int(g.picture_rows.dim[0]) : 0;
        reply.vision_ms = watch.ms();
        AnswerText text(engine_.tokenizer(), options.stop, on_text);
        g.on_token = [&text](int id) { return text.push(id); };
        Answer answer = engine_.generate(g);
        text.finish();
        reply.ids = std::move(answer.ids);
        reply.end = answer.end;
        reply.prefill_ms = answer.prefill_ms;
        reply.decode_ms = answer.decode_ms;
        const std::string& all = text.text();
        reply.text = strip(std::string_view(all).substr(0, all.find(engine_.chat_template().stop)));
        turns_.back().answer = reply.text;
        return reply;
    } catch (...) {  // the question was not answered: the conversation stays as it was
        turns_.pop_back();
        pictures_.resize(earlier);
        throw;
    }
}

}  // namespace internvl
