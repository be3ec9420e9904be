// What api.md 6.1 and 6.2 promise of the engine, in numbers: tokens a second of one stream and of
// several, and how long streams stand still while a picture of 13 tiles arrives.
//
//   build/bench/serve_bench FOLDER [streams = 8] [step budget in ms = 200] [dtype = auto]
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <future>

#include "base/cpu.h"
#include "engine/engine_thread.h"
#include "engine/prompt.h"
#include "io/folder.h"

namespace internvl {

namespace {

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double, std::milli>(b - a).count();
}

double quantile(std::vector<double> values, double q) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    return values[std::min(values.size() - 1, size_t(q * double(values.size())))];
}

// A listener that writes down when it hears a token.
struct Stream {
    std::vector<Clock::time_point> heard = {};  // read once `end` is there
    std::promise<Answer> promise = {};
    std::future<Answer> answer = promise.get_future();
    uint64_t id = 0;

    void begin(EngineThread& engine, Generation g) {
        heard.reserve(4096);
        g.options.ignore_eos = true;
        g.on_token = [this](int) {
            heard.push_back(Clock::now());
            return true;
        };
        g.on_end = [this](Answer a) { promise.set_value(std::move(a)); };
        id = engine.submit(std::move(g));
    }
    void end() {
        const Answer a = answer.get();
        if (a.error) std::rethrow_exception(a.error);
    }
    std::vector<double> gaps(Clock::time_point from, Clock::time_point to) const {
        std::vector<double> all;
        for (size_t i = 1; i < heard.size(); ++i)
            if (heard[i] > from && heard[i - 1] < to)
                all.push_back(ms_between(heard[i - 1], heard[i]));
        return all;
    }
};

Generation text(int tokens, int word) {
    Generation g;
    for (int i = 0; i < 64; ++i) g.prompt.push_back(100 + (word * 37 + i) % 300);
    g.options.max_new_tokens = tokens;
    return g;
}

Generation picture(const Engine& e, int tiles, int seed) {
    Tiles t{{tiles, 1}, tiles, 448, {}};
    t.rgb.resize(size_t(tiles) * 448 * 448 * 3);
    for (size_t i = 0; i < t.rgb.size(); ++i) t.rgb[i] = uint8_t(i * 31 / 97 + size_t(seed) * i);
    Generation g = text(8, 50);
    g.prompt.insert(g.prompt.end(), size_t(tiles * tokens_per_tile), e.context_token());
    g.prompt.push_back(100);
    g.unseen = {std::make_shared<const Tiles>(std::move(t))};
    return g;
}

// Tokens a second of so many streams together.
double rate(EngineThread& engine, int streams, int tokens) {
    std::vector<Stream> all(static_cast<size_t>(streams));
    for (int i = 0; i < streams; ++i) all[size_t(i)].begin(engine, text(tokens, i));
    for (Stream& s : all) s.end();
    auto from = all[0].heard.front(), to = from;
    for (const Stream& s : all) {
        from = std::max(from, s.heard.front());  // all run
        to = std::max(to, s.heard.back());
    }
    double made = 0;
    for (const Stream& s : all)
        made += double(std::ranges::count_if(s.heard, [&](const auto& t) { return t > from; }));
    return 1e3 * made / ms_between(from, to);
}

void stalls(EngineThread& engine, const Engine& e, int streams, double budget) {
    std::vector<Stream> all(static_cast<size_t>(streams));
    for (int i = 0; i < streams; ++i) all[size_t(i)].begin(engine, text(3000, i));
    std::this_thread::sleep_for(std::chrono::seconds(4));
    const auto arrives = Clock::now();
    Stream late;
    late.begin(engine, picture(e, 13, 7));
    late.end();
    const auto ends = late.heard.front();
    for (const Stream& s : all) engine.cancel(s.id);
    for (Stream& s : all) s.end();
    std::vector<double> before, during;
    for (const Stream& s : all) {
        const auto quiet = s.gaps(s.heard[8], arrives), busy = s.gaps(arrives, ends);
        before.insert(before.end(), quiet.begin(), quiet.end());
        during.insert(during.end(), busy.begin(), busy.end());
    }
    const StepCosts c = engine.status().costs;
    const double median = quantile(before, 0.5), p99 = quantile(during, 0.99);
    const double largest = quantile(during, 1);
    fmt::print("{} streams, then a picture of 13 tiles; budget {} ms\n", streams, budget);
    fmt::print("  decode step     median {:.1f} ms, p99 {:.1f} before the picture\n", median,
               quantile(before, 0.99));
    fmt::print(
        "  gaps meanwhile  median {:.1f} ms, p99 {:.1f} ({} {:.1f}), largest {:.1f} ({} {:.1f})\n",
        quantile(during, 0.5), p99, p99 <= median + 1.25 * budget ? "within" : "OVER",
        median + 1.25 * budget, largest, largest <= median + 2 * budget ? "within" : "OVER",
        median + 2 * budget);
    fmt::print(
        "  picture         {:.2f} s to its first token; a layer of a tile {:.1f} ms, a prompt "
        "token {:.2f} ms\n",
        ms_between(arrives, ends) / 1e3, c.piece_ms, c.token_ms);
}

int run(int count, char** args) {
    if (count < 2) {
        fmt::print("usage: {} FOLDER [streams] [budget in ms] [dtype]\n", args[0]);
        return 2;
    }
    const int streams = count > 2 ? std::atoi(args[2]) : 8;
    const double budget = count > 3 ? std::atof(args[3]) : 200;
    Engine e(ModelFolder::open(args[1]), {.dtype = count > 4 ? args[4] : "auto"});
    EngineThread engine(
        e, {.max_sequences = 32, .cache_tokens = 40000, .chunk = 256, .step_budget_ms = budget});
    fmt::print("{}, {} on {} threads\n", cpu_description(), e.types().name(), e.pool().threads());
    rate(engine, 1, 16);
    const double one = rate(engine, 1, 48), many = rate(engine, streams, 48);
    fmt::print("  1 stream {:.1f} tokens/s, {} streams {:.1f}: {:.2f} times\n", one, streams, many,
               many / one);
    stalls(engine, e, streams, budget);
    return 0;
}

}  // namespace

}  // namespace internvl

int main(int count, char** args) {
    return internvl::run(count, args);
}
