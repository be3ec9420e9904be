#include "cli/receipt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "cli/stages.h"
#include "io/builtin_files.h"
#include "serve/openai.h"

namespace internvl::cli {

static constexpr int answer_tokens = 32;

std::vector<Dialogue> builtin_sample() {
    const auto ask = [](const char* question, std::vector<Media> media = {}) {
        Dialogue d;
        d.rounds = {{question, std::move(media), {}}};
        return d;
    };
    ImageOptions one_tile;
    one_tile.max_num = 1;
    return {ask("What is in the picture?", {Photo::decode(builtin_picture(), one_tile)}),
            ask("Why is the sky blue?"),
            ask("Write a function in Python that returns the n-th prime number."),
            ask("请用一句话介绍一下你自己。")};
}

std::vector<Dialogue> read_sample(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw Error("cannot open file", "a JSONL file", "", file);
    FileDefaults defaults;
    defaults.folder = std::filesystem::path(file).parent_path();
    std::vector<Dialogue> sample;
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
        if (line.find_first_not_of(" \t\r") == line.npos) continue;
        const std::string where = fmt::format("{} line {}", file, number);
        const nlohmann::json request = parse_json(line, where);
        try {
            sample.push_back(to_question(parse_file_request(
                request.contains("body") ? request["body"] : request, defaults)));
        } catch (const RequestError& e) {
            throw Error(e.what(), "", "", where);
        }
    }
    if (sample.empty()) throw Error("the sample is empty", "a request on each line", "", file);
    return sample;
}

// The outputs of layers are compared, and what the language model gets from the tower.
static bool is_layer(const std::string& stage) {
    return stage.starts_with("vision/block") || stage == "vision/projected" ||
           stage.starts_with("text/after_layer");
}

// One pass over prompt and answer. Of the logits, those that choose the answer's tokens.
static void look(Model& model, const Dialogue& d, Recording& r) {
    run_stages(model, d.rounds[0].media, r.ids, false, [&](const std::string& name, const View& v) {
        if (is_layer(name)) r.layers.emplace_back(name, Stage(name, v).values);
        if (name == "text/logits")
            r.logits =
                Stage(name, v.slice(0, int64_t(r.answer) - 1, int64_t(r.ids.size() - r.answer)))
                    .values;
    });
}

std::vector<Recording> record(Model& model, const std::vector<Dialogue>& sample) {
    std::vector<Recording> all;
    for (const Dialogue& d : sample) {
        GenerateOptions options;
        options.max_new_tokens = answer_tokens;
        ChatOptions chat;
        chat.system = d.system;
        chat.combine = d.combine;
        const Result result =
            Chat(model, chat).ask(d.rounds[0].question, d.rounds[0].media, options);
        Recording r{result.prompt_ids, result.prompt_ids.size(), {}, {}};
        r.ids.insert(r.ids.end(), result.ids.begin(), result.ids.end());
        look(model, d, r);
        all.push_back(std::move(r));
    }
    return all;
}

// Kullback-Leibler divergence of the second distribution from the first, in nats.
static double divergence(std::span<const float> p, std::span<const float> q) {
    const auto log_sum = [](std::span<const float> x) {
        const double most = *std::ranges::max_element(x);
        double sum = 0;
        for (const float v : x) sum += std::exp(double(v) - most);
        return most + std::log(sum);
    };
    const double p_sum = log_sum(p), q_sum = log_sum(q);
    double kl = 0;
    for (size_t i = 0; i < p.size(); ++i) {
        const double log_p = double(p[i]) - p_sum;
        kl += std::exp(log_p) * (log_p - (double(q[i]) - q_sum));
    }
    return std::max(kl, 0.0);
}

Likeness compare(Model& quantised, const std::vector<Dialogue>& sample,
                 const std::vector<Recording>& recordings) {
    struct Squares {
        std::string stage;
        double lost = 0, all = 0;
    };
    std::vector<Squares> layers;
    Likeness likeness;
    for (size_t s = 0; s < sample.size(); ++s) {
        const Recording& before = recordings[s];
        Recording after{before.ids, before.answer, {}, {}};
        look(quantised, sample[s], after);
        for (size_t n = 0; n < before.layers.size(); ++n) {
            const auto& [stage, values] = before.layers[n];
            auto place = std::ranges::find(layers, stage, &Squares::stage);
            if (place == layers.end()) place = layers.insert(place, {stage});
            for (size_t i = 0; i < values.size(); ++i) {
                const double d = double(after.layers[n].second[i]) - double(values[i]);
                place->lost += d * d;
                place->all += double(values[i]) * double(values[i]);
            }
        }
        const size_t tokens = before.ids.size() - before.answer;
        const size_t vocab = tokens > 0 ? before.logits.size() / tokens : 0;
        for (size_t t = 0; t < tokens; ++t) {
            const auto row = [&](const Recording& r) {
                return std::span(r.logits).subspan(t * vocab, vocab);
            };
            const auto chosen = std::ranges::max_element(row(after)) - row(after).begin();
            likeness.agree += chosen == before.ids[before.answer + t];
            likeness.kl += divergence(row(before), row(after));
        }
        likeness.tokens += int64_t(tokens);
    }
    for (const Squares& l : layers)
        likeness.layers.push_back({l.stage, l.all > 0 ? std::sqrt(l.lost / l.all) : 0});
    if (likeness.tokens > 0) likeness.kl /= double(likeness.tokens);
    return likeness;
}

}  // namespace internvl::cli
