#include "engine/session.h"

#include <utility>

#include "base/clock.h"
#include "text/utf8.h"

namespace internvl {

Session::Session(Engine& engine, std::string system, bool reference)
    : engine_(engine), system_(std::move(system)) {
    if (reference) reference_ = std::make_unique<ReferenceRope>(engine.model().config.text);
}

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
        for (const PictureSlot& p : turn.pictures) {
            all += p.tiles;
            if (!turn.combine) entries.push_back(p.tiles);
        }
        if (turn.combine && all > 0) entries.push_back(all);
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

void Session::see(Engine& engine, std::span<Session* const> sessions,
                  const Engine::OnTiles& on_tiles) {
    std::vector<Picture*> unseen;
    std::vector<const Tiles*> tiles;
    for (Session* s : sessions)
        for (Picture& p : s->pictures_)
            if (!p.seen.rows) unseen.push_back(&p), tiles.push_back(p.tiles.get());
    if (unseen.empty()) return;
    std::vector<PictureRows> seen = engine.encode(tiles, on_tiles);
    for (size_t i = 0; i < unseen.size(); ++i) unseen[i]->seen = std::move(seen[i]);
}

PictureRows Session::picture_rows() {
    if (pictures_.empty()) return {};
    if (pictures_.size() == 1) return pictures_[0].seen;
    int64_t count = 0, at = 0;
    for (const Picture& p : pictures_) count += p.seen.rows.dim[0];
    PictureRows all;
    const Tensor& first = pictures_[0].seen.rows;
    all.rows = make_tensor(first.dtype, {count, first.dim[1]});
    for (const Picture& p : pictures_) {
        const View& rows = p.seen.rows;
        copy(engine_.context(), rows, all.rows.slice(0, at, rows.dim[0]));
        all.keys.insert(all.keys.end(), p.seen.keys.begin(), p.seen.keys.end());
        at += rows.dim[0];
    }
    return all;
}

std::vector<std::shared_ptr<const Tiles>> Session::unseen() const {
    std::vector<std::shared_ptr<const Tiles>> all;
    for (const Picture& p : pictures_) all.push_back(p.tiles);
    return all;
}

void Session::add(const std::string& question, std::vector<Picture> pictures, bool combine) {
    Exchange turn{question, {}, combine, std::nullopt};
    // The reference puts a mark where the user wrote none, in a first question only (spec 6.2 step
    // 1).
    if (reference_ && turns_.empty() && !pictures.empty() &&
        question.find("<image>") == question.npos)
        turn.question = "<image>\n" + question;
    for (Picture& p : pictures) {
        turn.pictures.push_back({p.tiles->count, p.frame});
        pictures_.push_back(std::move(p));
    }
    turns_.push_back(std::move(turn));
}

void Session::recall(const std::string& question, std::vector<Picture> pictures, bool combine,
                     const std::string& answer) {
    add(question, std::move(pictures), combine);
    turns_.back().answer = answer;
}

void Session::forget_last() {
    pictures_.resize(pictures_.size() - turns_.back().pictures.size());
    turns_.pop_back();
}

// Throws Error when the prompt does not fit, before its pictures are looked at.
Task Session::make_task(Prompt prompt, const GenerateOptions& options,
                        const OnText& on_text) const {
    Task task;
    task.prompt = std::move(prompt);
    task.text =
        std::make_shared<AnswerText>(engine_.tokenizer(),
                                     AnswerTextOptions{.stops = options.stop,
                                                       .include_stop = options.include_stop,
                                                       .quiet_tokens = options.min_new_tokens,
                                                       .reference_chunks = reference_ != nullptr,
                                                       .tags = !options.skip_special_tokens},
                                     on_text);
    task.generation.prompt = task.prompt.ids;
    task.generation.options = options;
    task.generation.on_token = [text = task.text](int id) { return text->push(id); };
    engine_.check_room(task.generation);
    engine_.notice_length(task.prompt.ids.size());
    return task;
}

Task Session::begin(const std::string& question, std::vector<Picture> pictures,
                    const GenerateOptions& options, bool combine, const OnText& on_text) {
    add(question, std::move(pictures), combine);
    try {
        return make_task(prompt(), options, on_text);
    } catch (...) {
        forget_last();
        throw;
    }
}

Task Session::begin(std::span<const Message> messages, std::span<const MediaTiles> media,
                    std::vector<Picture> pictures, const GenerateOptions& options,
                    const PromptOptions& prompt_options) {
    pictures_ = std::move(pictures);
    return make_task(build_prompt(engine_.tokenizer(), engine_.chat_template(), system_, messages,
                                  media, prompt_options),
                     options, {});
}

Reply Session::finish(Task& task, Answer answer) {
    Reply reply;
    task.text->finish();
    const std::string& all = task.text->text();
    reply.text = strip(std::string_view(all).substr(0, all.find(engine_.chat_template().stop)));
    reply.prompt = std::move(task.prompt);
    reply.ids = std::move(answer.ids);
    reply.end = answer.end;
    reply.score = answer.score;
    reply.vision_ms = answer.vision_ms;
    reply.prefill_ms = answer.prefill_ms;
    reply.decode_ms = answer.decode_ms;
    reply.cached_tokens = answer.cached_tokens;
    reply.computed_tiles = answer.tiles_computed;
    for (Picture& p : pictures_) {
        reply.image_tokens += tokens_per_tile * p.tiles->count;
        reply.computed_tiles += std::exchange(p.seen.computed, 0);  // counts for one answer
    }
    if (!turns_.empty()) turns_.back().answer = reply.text;
    return reply;
}

Reply Session::ask(const std::string& question, std::vector<Picture> pictures,
                   const GenerateOptions& options, bool combine, const OnText& on_text) {
    Task task = begin(question, std::move(pictures), options, combine, on_text);
    try {
        const Stopwatch watch;
        Session* const self = this;
        see(engine_, {&self, 1}, on_tiles);
        task.generation.pictures = picture_rows();
        const double vision_ms = watch.ms();
        Reply reply = finish(task, engine_.generate(task.generation, reference_.get()));
        reply.vision_ms = vision_ms;
        return reply;
    } catch (...) {  // the question was not answered: the conversation stays as it was
        forget_last();
        throw;
    }
}

}  // namespace internvl
