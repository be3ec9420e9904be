#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "serve/answer_writer.h"
#include "serve/completions_request.h"
#include "serve/station.h"

namespace internvl {

// A request for text on its way: media by header, prompt, a place in the queue, pixels, tokens,
// bytes for the client. Each step is a function that the one before it calls, on a worker's or the
// engine's thread. A job ends once: with an answer, with an error, or because its client left.
class Job : public std::enable_shared_from_this<Job> {
  public:
    Job(Station&, std::shared_ptr<Call>, AnswerOptions, bool chat);

    // From the request to the engine; throw RequestError. Heard once, one of them.
    void begin(ChatRequest);
    void begin(CompletionsRequest);
    void shut_down();  // ends with an error that says so

  private:
    // One answer in the making.
    struct Strand {
        std::unique_ptr<AnswerWriter> writer;
        Delta whole = {};  // of an answer that is not streamed
        Answer answer = {};
        std::string reason = {};
        uint64_t number = 0;  // the engine's
        std::optional<Clock::time_point> last_token = {};
    };

    void enter();
    void guarded(const std::function<void()>&);
    void plan(ChatRequest, std::vector<FetchedMedia>);
    void decoded(MediaResult<std::vector<LoadedMedia>>);
    void take_places(int64_t prompt_tokens, int prompts);
    void submit(const std::vector<Prompt>&, std::vector<std::shared_ptr<const Tiles>>);
    Generation generation(const Prompt&, int choice);
    bool token(int choice, int id);
    void say(Strand&, int index);
    void ended(int choice, Answer);
    void answer_whole();
    void record_end();
    void fail(const RequestError&);
    void fail_with_answer(const Answer&);
    void cancel();
    void leave();
    void forget();
    RequestError deadline_error() const;
    AnswerInfo info() const;
    Usage usage() const;

    Station& station_;
    const std::shared_ptr<Call> call_;
    AnswerOptions options_;
    AnswerHead head_;
    AnswerShape shape_;
    CancelToken cancelled_;
    std::vector<EngineThread::Place> places_;  // in the queue, of each choice
    ChatPlan plan_;
    std::vector<int> limits_;  // longest answer to each prompt
    Clock::time_point deadline_, decode_begin_;

    std::mutex mutex_;  // of all below
    std::vector<Strand> choices_;
    std::optional<AnswerEvents> events_;
    int unfinished_ = 0;
    bool submitted_ = false;  // all of them
    bool over_ = false;
};

}  // namespace internvl
