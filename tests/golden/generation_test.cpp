// Generation parameters and sampling distributions as the original implementation has them.
#include "reference.h"

namespace internvl {

static GenerateOptions generation_options(const nlohmann::json& parameters) {
    GenerateOptions o;
    const auto take = [&](const char* name, auto& value) {
        if (parameters.contains(name)) parameters[name].get_to(value);
    };
    take("temperature", o.temperature);
    take("top_k", o.top_k);
    take("top_p", o.top_p);
    take("typical_p", o.typical_p);
    take("epsilon_cutoff", o.epsilon_cutoff);
    take("eta_cutoff", o.eta_cutoff);
    take("renormalize_logits", o.renormalize_logits);
    take("repetition_penalty", o.repetition_penalty);
    take("no_repeat_ngram_size", o.no_repeat_ngram_size);
    take("min_new_tokens", o.min_new_tokens);
    take("min_length", o.min_length);
    take("suppress_tokens", o.suppress_tokens);
    take("begin_suppress_tokens", o.begin_suppress_tokens);
    take("num_beams", o.num_beams);
    take("length_penalty", o.length_penalty);
    take("early_stopping", o.early_stopping);
    return o;
}

class Parameters : public Golden {};
INSTANTIATE_TEST_SUITE_P(Generation, Parameters, testing::Values("tiny-1b", "tiny-2b"),
                         family_name);

TEST_P(Parameters, ToTheId) {
    Engine& e = of.engine();
    int compared = 0;
    for (const auto& g : of.json()["generation"]) {
        const auto& d = of.dialogue(g["dialogue"]);
        if (!g["stable"].get<bool>()) continue;
        GenerateOptions options = generation_options(g["parameters"]);
        options.max_new_tokens = g["max_new_tokens"];
        const std::vector<Picture> pictures = pictures_of(d);
        const bool batch = d["kind"] == "batch_chat";
        // A row of a batch is the same alone: neither model's prompts reach their limit here.
        for (size_t row = 0; row < g["generated"].size(); ++row) {
            Session session(e, system_of(e, d), true);
            const Reply reply =
                session.ask(d["questions"][row],
                            batch ? std::vector<Picture>{pictures[row]} : pictures, options);
            auto expected = g["generated"][row].get<std::vector<int>>();
            while (expected.size() > reply.ids.size() && batch) expected.pop_back();  // fill
            EXPECT_EQ(reply.ids, expected) << g["dialogue"] << ' ' << g["set"];
            EXPECT_EQ(reply.text, g["responses"][row].get<std::string>());
            if (options.num_beams > 1) {
                EXPECT_NEAR(reply.score, g["sequences_scores"][row].get<double>(), 1e-4);
            }
            ++compared;
        }
    }
    EXPECT_GE(compared, 60);
}

TEST_P(Parameters, SamplingDistributions) {
    const Expected expected = of.tensors();
    int steps = 0;
    for (const auto& s : of.json()["sampling"]) {
        GenerateOptions options = generation_options(s["parameters"]);
        options.do_sample = true;
        const Values logits =
            expected.get("sampling/" + s["dialogue"].get<std::string>() + "/logits");
        const size_t vocab = size_t(logits.shape.back());
        const auto forced = s["forced"].get<std::vector<int>>();
        Sampler sampler(options, s["sequence_before_first_step"][0], of.engine().stop_token());
        for (size_t t = 0; t < s["steps"].size(); ++t) {
            const auto& step = s["steps"][t];
            if (!step["stable"].get<bool>()) continue;
            const auto list = sampler.distribution({logits.data.data() + t * vocab, vocab},
                                                   std::span(forced).first(t));
            ASSERT_EQ(list.size(), step["kept"].get<size_t>()) << s["parameters"] << " step " << t;
            const auto ids = step["ids"].get<std::vector<int>>();
            for (size_t i = 0; i < ids.size(); ++i) {
                EXPECT_EQ(list[i].id, ids[i]) << s["parameters"] << " step " << t;
                EXPECT_NEAR(list[i].probability, step["probabilities"][i].get<double>(),
                            1e-4 * step["probabilities"][i].get<double>() + 1e-7);
            }
            ++steps;
        }
    }
    EXPECT_GE(steps, 100);
}

}  // namespace internvl
