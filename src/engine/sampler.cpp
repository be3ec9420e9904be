#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"

namespace internvl {

static constexpr float never = -std::numeric_limits<float>::infinity();

static void check(bool good, const char* name, const char* expected, double found) {
    if (!good)
        throw UsageError(fmt::format("{} is out of range", name), expected,
                         fmt::format("{}", found));
}

Sampler::Sampler(const GenerateOptions& options, int start, int stop)
    : options_(options), start_(start), stop_(stop) {
    check(options.max_new_tokens >= 1, "max-new-tokens", "at least 1", options.max_new_tokens);
    check(options.min_new_tokens >= 0, "min-new-tokens", "at least 0", options.min_new_tokens);
    check(options.no_repeat_ngram_size >= 0, "no-repeat-ngram-size", "at least 0",
          options.no_repeat_ngram_size);
    check(options.repetition_penalty > 0, "repetition-penalty", "above 0",
          options.repetition_penalty);
    check(options.temperature > 0 || !options.do_sample, "temperature", "above 0",
          options.temperature);
    check(options.top_k >= 0, "top-k", "at least 0", options.top_k);
    check(options.top_p > 0 && options.top_p <= 1, "top-p", "above 0 and at most 1", options.top_p);
    check(options.min_p >= 0 && options.min_p <= 1, "min-p", "between 0 and 1", options.min_p);
    check(options.epsilon_cutoff >= 0 && options.epsilon_cutoff < 1, "epsilon-cutoff",
          "at least 0 and below 1", options.epsilon_cutoff);
    check(options.eta_cutoff >= 0 && options.eta_cutoff < 1, "eta-cutoff", "at least 0 and below 1",
          options.eta_cutoff);
    check(options.num_beams >= 1 && options.num_beams <= 256, "num-beams", "1 to 256",
          options.num_beams);
    if (options.num_beams > 1 && options.do_sample)
        throw UsageError("beam search does not sample", "greedy, or num-beams 1", "do-sample");
    check(std::abs(options.presence_penalty) <= 2, "presence-penalty", "-2 to 2",
          options.presence_penalty);
    check(std::abs(options.frequency_penalty) <= 2, "frequency-penalty", "-2 to 2",
          options.frequency_penalty);
    check(options.typical_p > 0 && options.typical_p <= 1, "typical-p", "above 0 and at most 1",
          options.typical_p);
}

// Bans what would complete an n-gram that the sequence already holds.
void Sampler::ban_repeated_ngrams(std::span<const int> sequence) {
    const size_t n = size_t(options_.no_repeat_ngram_size);
    if (n == 0 || sequence.size() + 1 < n) return;
    const auto tail = sequence.last(n - 1);
    for (size_t i = 0; i + n <= sequence.size(); ++i)
        if (std::equal(tail.begin(), tail.end(), sequence.begin() + long(i)))
            scores_[size_t(sequence[i + n - 1])] = never;
}

// What small penalties make of a score stays a number that can be divided and compared.
static constexpr float most_score = 1e30f;

// Lowers the scores of what the answer already holds.
void Sampler::penalise(std::span<const int> history) {
    if (options_.repetition_penalty != 1.0f) {
        std::set<int> seen(history.begin(), history.end());
        if (options_.penalise_start) seen.insert(start_);
        for (const int id : seen) {
            if (id < 0 || size_t(id) >= scores_.size()) continue;
            float& score = scores_[size_t(id)];
            score = score < 0 ? score * options_.repetition_penalty
                              : score / options_.repetition_penalty;
            if (score > most_score) score = most_score;
        }
    }
    if (options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
    std::map<int, int> counts;
    for (const int id : history) ++counts[id];
    for (const auto& [id, count] : counts)
        if (id >= 0 && size_t(id) < scores_.size())
            scores_[size_t(id)] -=
                options_.presence_penalty + options_.frequency_penalty * float(count);
}

bool Sampler::stops(int id) const {
    if (id == stop_ && !options_.ignore_eos) return true;
    return std::ranges::find(options_.stop_token_ids, id) != options_.stop_token_ids.end();
}

void Sampler::ban_stops(int made) {
    const bool short_of_tokens = made < options_.min_new_tokens;
    if (made + 1 < options_.min_length || short_of_tokens || options_.ban_eos) ban({&stop_, 1});
    if (short_of_tokens) ban(options_.stop_token_ids);
}

void Sampler::process(std::span<const int> history) {
    penalise(history);
    for (const auto& [id, bias] : options_.logit_bias)
        if (id >= 0 && size_t(id) < scores_.size()) scores_[size_t(id)] += bias;
    std::vector<int> sequence{start_};
    sequence.insert(sequence.end(), history.begin(), history.end());
    ban_repeated_ngrams(sequence);
    ban_stops(int(history.size()));
    ban(options_.suppress_tokens);
    if (history.empty()) ban(options_.begin_suppress_tokens);
    if (options_.renormalize_logits) normalise();
}

void Sampler::ban(std::span<const int> ids) {
    for (const int id : ids)
        if (id >= 0 && size_t(id) < scores_.size()) scores_[size_t(id)] = never;
}

// Scores to log-probabilities.
void Sampler::normalise() {
    const float top = *std::max_element(scores_.begin(), scores_.end());
    double total = 0;
    for (const float s : scores_) total += std::exp(double(s) - top);
    const float shift = top + float(std::log(total));
    for (float& s : scores_) s -= shift;
}

static void check_numbers(std::span<const float> logits) {
    for (const float x : logits)
        if (std::isnan(x))
            throw Error("the model computed a logit that is not a number", "finite weights", "NaN");
}

std::span<const float> Sampler::log_probabilities(std::span<const float> logits,
                                                  std::span<const int> history) {
    check_numbers(logits);
    scores_.assign(logits.begin(), logits.end());
    normalise();
    process(history);
    return scores_;
}

// Probabilities of candidates whose scores stand in `probability`.
static void softmax(std::vector<Candidate>& list) {
    float top = never;
    for (const Candidate& c : list) top = std::max(top, c.probability);
    double total = 0;
    for (Candidate& c : list) total += c.probability = std::exp(c.probability - top);
    for (Candidate& c : list) c.probability = float(c.probability / total);
}

static bool likelier(const Candidate& a, const Candidate& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
}

// Keeps those at least as good as the k-th best; ties with it stay (spec 6.4). The list holds
// scores.
static void keep_top_k(std::vector<Candidate>& list, int k) {
    if (k == 0 || size_t(k) >= list.size()) return;
    std::vector<float> best;  // a heap, its least in front
    for (const Candidate& c : list) {
        if (best.size() == size_t(k)) {
            if (c.probability <= best.front()) continue;
            std::pop_heap(best.begin(), best.end(), std::greater());
            best.pop_back();
        }
        best.push_back(c.probability);
        std::push_heap(best.begin(), best.end(), std::greater());
    }
    std::erase_if(list, [&](const Candidate& c) { return c.probability < best.front(); });
}

// Drops, from the least likely on, what together has at most 1 - p, and sorts the rest. The list
// holds probabilities. Those kept are few as a rule: only so many are sorted.
static void keep_top_p(std::vector<Candidate>& list, float p) {
    double total = 0;
    for (const Candidate& c : list) total += c.probability;
    for (size_t sorted = 256;; sorted *= 8) {
        sorted = std::min(sorted, list.size());
        std::partial_sort(list.begin(), list.begin() + long(sorted), list.end(), likelier);
        double left = total;
        for (size_t i = 0; i < sorted; ++i) {
            if (i > 0 && left <= 1.0 - double(p)) return list.resize(i);
            left -= list[i].probability;
        }
        if (sorted == list.size()) return;
    }
}

// Locally typical sampling: those whose surprise is nearest to the expected one, until they make up
// `mass`.
static void keep_typical(std::vector<Candidate>& list, float mass) {
    double entropy = 0;
    for (const Candidate& c : list)
        if (c.probability > 0) entropy -= double(c.probability) * std::log(double(c.probability));
    const auto distance = [entropy](const Candidate& c) {
        return std::abs(-std::log(double(c.probability)) - entropy);
    };
    std::stable_sort(list.begin(), list.end(), [&](const Candidate& a, const Candidate& b) {
        return distance(a) < distance(b);
    });
    double sum = 0;
    size_t last = 0;
    for (const Candidate& c : list) last += (sum += c.probability) < double(mass);
    const double limit = distance(list[std::min(last, list.size() - 1)]);
    std::erase_if(list, [&](const Candidate& c) { return distance(c) > limit; });
    std::sort(list.begin(), list.end(), likelier);
}

// Drops what is less likely than `least`, but never the likeliest. The list is sorted.
static void keep_likely(std::vector<Candidate>& list, double least) {
    while (list.size() > 1 && double(list.back().probability) < least) list.pop_back();
}

// The threshold of eta sampling: lower where the distribution is flat.
static double eta_of(const std::vector<Candidate>& list, double cutoff) {
    double entropy = 0;
    for (const Candidate& c : list)
        if (c.probability > 0) entropy -= double(c.probability) * std::log(double(c.probability));
    return std::min(cutoff, std::sqrt(cutoff) * std::exp(-entropy));
}

std::vector<Candidate> Sampler::distribution(std::span<const float> logits,
                                             std::span<const int> history) {
    scores_.assign(logits.begin(), logits.end());
    process(history);
    std::vector<Candidate> list;
    for (size_t i = 0; i < scores_.size(); ++i)
        if (scores_[i] > never) list.push_back({int(i), scores_[i] / options_.temperature});
    if (list.empty())
        throw Error("every token is banned", "at least one candidate", "none", "sampler");
    keep_top_k(list, options_.top_k);
    softmax(list);
    const auto renormalise = [&list] {
        double total = 0;
        for (const Candidate& c : list) total += c.probability;
        for (Candidate& c : list) c.probability = float(c.probability / total);
    };
    if (options_.top_p < 1)
        keep_top_p(list, options_.top_p), renormalise();
    else
        std::sort(list.begin(), list.end(), likelier);
    if (options_.min_p > 0) {
        const float least = options_.min_p * list[0].probability;
        std::erase_if(list, [least](const Candidate& c) { return c.probability < least; });
        renormalise();
    }
    if (options_.typical_p < 1) keep_typical(list, options_.typical_p), renormalise();
    if (options_.epsilon_cutoff > 0) keep_likely(list, options_.epsilon_cutoff), renormalise();
    if (options_.eta_cutoff > 0)
        keep_likely(list, eta_of(list, options_.eta_cutoff)), renormalise();
    return list;
}

int Sampler::next(std::span<const float> logits, std::span<const int> history) {
    check_numbers(logits);
    if (!options_.do_sample) {
        scores_.assign(logits.begin(), logits.end());
        process(history);
        return int(std::max_element(scores_.begin(), scores_.end()) -
                   scores_.begin());  // the first of equals
    }
    const std::vector<Candidate> list = distribution(logits, history);
    double left = uniform_at(options_.seed, uint64_t(options_.choice), history.size());
    for (const Candidate& c : list)
        if ((left -= c.probability) < 0) return c.id;
    return list.back().id;
}

double uniform_at(uint64_t seed, uint64_t choice, uint64_t index) {
    // splitmix64 of mixed words; the first choice is the one of a seed without choices
    const auto mix = [](uint64_t x) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    };
    constexpr uint64_t step = 0x9e3779b97f4a7c15u;
    const uint64_t own = choice == 0 ? seed : mix(seed ^ mix(choice * step));
    const uint64_t bits = mix(mix(own + step) + (index + 1) * step);
    return double(bits >> 11) * 0x1p-53;
}

}  // namespace internvl
