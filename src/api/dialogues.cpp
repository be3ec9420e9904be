#include <deque>

#include "api/data.h"
#include "base/error.h"
#include "engine/step_loop.h"
#include "model/memory.h"

namespace internvl {

namespace {

using OnResult = std::function<void(Result, const std::string*)>;

// A dialogue that waits for its answer.
struct Waiting {
    Session session;
    Task task;
    OnResult on_result;
};

// The card's batch_chat() knows no history and no system message of a question's own.
void check_reference(const Dialogue& dialogue) {
    if (dialogue.rounds.size() > 1)
        throw UsageError("the reference's batch_chat knows no history", "one round",
                         std::to_string(dialogue.rounds.size()));
}

}  // namespace

struct Dialogues::Data {
    Model model;
    BatchOptions options;
    std::deque<std::shared_ptr<Waiting>> waiting = {};  // not yet seen by the vision tower
    std::unique_ptr<ReferenceRope> reference = {};
    std::unique_ptr<StepLoop> loop = {};
    int unfinished = 0;

    Engine& engine() { return model.data().engine; }

    // Enough for max_sequences of the longest that waits, or of a usual one; longer ones get a new
    // loop. Memory is touched as tokens come.
    void make_loop() {
        int64_t longest = 4096;
        for (const auto& w : waiting)
            longest = std::max(longest, int64_t(w->task.generation.prompt.size()) +
                                            engine().check_room(w->task.generation));
        // As many as memory holds when all become as long as that.
        const int64_t fit = engine().cache_memory() /
                            cache_bytes(engine().model().config.text, engine().types().cache());
        const int together =
            options.compat_reference
                ? int(waiting.size())
                : int(std::clamp<int64_t>(fit / longest, 1, options.max_sequences));
        LoopOptions o;
        o.max_sequences = together;
        o.cache_tokens = (longest + cache_block) * together;
        if (options.compat_reference) {
            reference = std::make_unique<ReferenceRope>(engine().model().config.text);
            o.reference = reference.get();
        }
        loop.reset();  // gives back the cache, which one loop has at a time
        loop = std::make_unique<StepLoop>(engine(), o);
    }

    void take(Session session, Task task, OnResult on_result) {
        engine().make_sampler(task.generation.options);  // refuses options out of range
        waiting.push_back(std::make_shared<Waiting>(
            Waiting{std::move(session), std::move(task), std::move(on_result)}));
        ++unfinished;
    }

    void report(Waiting& w, Answer answer) {
        --unfinished;
        if (!answer.error) return w.on_result(to_result(w.session.finish(w.task, answer)), nullptr);
        try {
            std::rethrow_exception(answer.error);
        } catch (const Error& e) {
            const std::string text = e.what();
            w.on_result({}, &text);
        }
    }

    // Lets the answers of the next dialogues begin. The reference sees all pictures first.
    void begin_some() {
        const size_t count =
            std::min(waiting.size(),
                     size_t(options.compat_reference ? waiting.size()
                                                     : options.max_sequences - loop->unfinished()));
        std::vector<std::shared_ptr<Waiting>> group(waiting.begin(), waiting.begin() + long(count));
        waiting.erase(waiting.begin(), waiting.begin() + long(count));
        std::vector<Session*> sessions;
        for (const auto& w : group)
            if (options.compat_reference || beams(*w)) sessions.push_back(&w->session);
        try {
            Session::see(engine(), sessions);
        } catch (const Error&) {
            for (const auto& w : group) fail(*w);
            return;
        }
        for (const auto& w : group) begin(w);
    }

    static bool beams(const Waiting& w) { return w.task.generation.options.num_beams > 1; }

    void begin(const std::shared_ptr<Waiting>& w) {
        const bool seen = options.compat_reference || beams(*w);
        Generation g = std::move(w->task.generation);  // out of w, which its own on_end keeps alive
        if (seen)
            g.pictures = w->session.picture_rows();
        else
            g.unseen = w->session.unseen();
        try {
            if (g.options.num_beams > 1) return report(*w, engine().generate(g, reference.get()));
            g.on_end = [this, w](Answer a) { report(*w, std::move(a)); };
            loop->add(std::move(g));
        } catch (const Error&) {
            fail(*w);
        }
    }

    // The error at hand is the dialogue's answer.
    void fail(Waiting& w) {
        Answer answer;
        answer.end = Answer::End::failed;
        answer.error = std::current_exception();
        report(w, std::move(answer));
    }
};

Dialogues::Dialogues(const Model& model, const BatchOptions& options)
    : data_(new Data{model, options}) {
    if (options.max_sequences < 1)
        throw UsageError("max-sequences is out of range", "at least 1",
                         std::to_string(options.max_sequences));
    data_->engine().cancel = false;
}

void Dialogues::add(const Dialogue& dialogue, OnResult on_result) {
    if (dialogue.rounds.empty()) throw UsageError("a dialogue without a round", "a question", "");
    if (data_->options.compat_reference) check_reference(dialogue);
    Engine& engine = data_->engine();
    Session session(engine, system_or_default(engine, dialogue.system),
                    data_->options.compat_reference);
    for (size_t i = 0; i + 1 < dialogue.rounds.size(); ++i) {
        const Round& r = dialogue.rounds[i];
        session.recall(r.question, pictures_of(r.media), dialogue.combine, r.answer.value_or(""));
    }
    const Round& last = dialogue.rounds.back();
    Task task = session.begin(last.question, pictures_of(last.media), dialogue.generate,
                              dialogue.combine, {});
    data_->take(std::move(session), std::move(task), std::move(on_result));
}

void Conversation::add_to(Dialogues& dialogues, OnResult on_result) const {
    Engine& engine = dialogues.data_->engine();
    Session session(engine, engine.system_message(), false);
    std::vector<MediaTiles> tiles;
    for (const Media& m : media) {
        MediaTiles& t = tiles.emplace_back();
        t.video = std::holds_alternative<Video>(m);
        for (const Picture& p : pictures_of({m})) t.tiles.push_back(p.tiles->count);
    }
    Task task = session.begin(messages, tiles, pictures_of(media), generate, prompt);
    dialogues.data_->take(std::move(session), std::move(task), std::move(on_result));
}

bool Dialogues::step() {
    Data& d = *data_;
    if (!d.waiting.empty()) {
        if (!d.loop || d.loop->unfinished() == 0) d.make_loop();
        if (d.options.compat_reference || d.loop->unfinished() < d.options.max_sequences)
            d.begin_some();
    }
    if (d.loop) d.loop->step();
    return d.unfinished > 0;
}

int Dialogues::unfinished() const {
    return data_->unfinished;
}

std::vector<Result> answer_all(const Model& model, const std::vector<Dialogue>& dialogues,
                               const BatchOptions& options) {
    std::vector<Result> results(dialogues.size());
    std::string failed;
    Dialogues batch(model, options);
    for (size_t i = 0; i < dialogues.size(); ++i)
        batch.add(dialogues[i], [&results, &failed, i](Result r, const std::string* error) {
            if (error && failed.empty()) failed = *error;
            results[i] = std::move(r);
        });
    while (batch.step()) {
    }
    if (!failed.empty()) throw Error(failed);
    return results;
}

}  // namespace internvl
