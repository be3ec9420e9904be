#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "api/data.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/common.h"
#include "cli/receipt.h"
#include "io/hub.h"
#include "io/write_checkpoint.h"
#include "model/quantize_folder.h"

namespace internvl::cli {

namespace {

using Json = nlohmann::ordered_json;

struct QuantizeFlags {
    ModelOptions model;
    std::string out, sample;
    bool no_sample = false;
};

constexpr const char* role_names[] = {"patches", "vision", "projector", "language", "head"};

std::string kept_text(const WeightFormat& f) {
    return f.kind == WeightFormat::int8 ? "int8" : fmt::format("int4, groups of {}", f.group);
}

// What is the same with and without a sample: weights and bytes.
Json weights_receipt(const QuantisedWeights& weights, const QuantPolicy& policy) {
    Json products = Json::array();
    for (const WeightError& e : weights.products)
        products.push_back({{"name", e.name},
                            {"part", role_names[size_t(e.role)]},
                            {"kept", kept_text(e.kept)},
                            {"relative_rms", e.relative_rms}});
    return {{"quantisation", policy.text()},
            {"bytes", {{"before", weights.bytes_before}, {"after", weights.bytes_after}}},
            {"weights", products}};
}

Json sample_receipt(const Likeness& likeness, size_t requests, const std::string& dtype,
                    const std::string& sample) {
    Json layers = Json::array();
    for (const Likeness::Layer& l : likeness.layers)
        layers.push_back({{"stage", l.stage}, {"relative_rms", l.relative_rms}});
    return {{"of", sample.empty() ? "built in" : sample},
            {"requests", requests},
            {"dtype", dtype},
            {"tokens", likeness.tokens},
            {"same_choice", likeness.agree},
            {"kl_nats_per_token", likeness.kl},
            {"layers", layers}};
}

// A line for each part: its products, their errors.
void print_weights(const QuantisedWeights& weights) {
    for (size_t role = 0; role < std::size(role_names); ++role) {
        double sum = 0, worst = 0;
        int64_t count = 0;
        std::string kept, name;
        for (const WeightError& e : weights.products) {
            if (size_t(e.role) != role) continue;
            kept = kept.empty() || kept == kept_text(e.kept) ? kept_text(e.kept) : "several ways";
            sum += e.relative_rms * e.relative_rms;
            ++count;
            if (e.relative_rms >= worst) worst = e.relative_rms, name = e.name;
        }
        if (count > 0)
            print_line(fmt::format(
                "{:<10} {:>4} products, {}: weights off by {:.4f}, at most {:.4f} ({})",
                role_names[role], count, kept, std::sqrt(sum / double(count)), worst, name));
    }
    print_line(fmt::format("{:<10} {:.2f} MB -> {:.2f} MB, {:.0f} %", "bytes",
                           double(weights.bytes_before) / 1e6, double(weights.bytes_after) / 1e6,
                           100.0 * double(weights.bytes_after) / double(weights.bytes_before)));
}

void print_likeness(const Likeness& likeness) {
    for (const Likeness::Layer& l : likeness.layers)
        print_line(fmt::format("{:<22} off by {:.4f}", l.stage, l.relative_rms));
    print_line(fmt::format("{} of {} tokens would be chosen again, {:.4f} nats a token",
                           likeness.agree, likeness.tokens, likeness.kl));
}

int quantize(const QuantizeFlags& flags) {
    flags.model.check();
    const QuantPolicy policy = quant_policy(flags.model.load);
    const ModelFolder folder = resolve_model(flags.model.model);
    const std::vector<Dialogue> sample = flags.no_sample        ? std::vector<Dialogue>()
                                         : flags.sample.empty() ? builtin_sample()
                                                                : read_sample(flags.sample);
    StagedFolder staged(flags.out);
    Json receipt;
    QuantisedWeights weights;
    {
        const int threads = flags.model.load.threads;
        ThreadPool pool(threads > 0 ? threads : usable_cores());
        Arena arena;
        Context ctx{cpu_kernels(), pool, arena, DType::f32};
        weights = quantise_folder(ctx, folder, policy, staged.path(), [](const WeightError& e) {
            if (interrupted()) throw Cancelled();
            log_info("{}: {}, off by {:.4f}", e.name, kept_text(e.kept), e.relative_rms);
        });
        receipt = weights_receipt(weights, policy);
    }
    print_weights(weights);
    if (!sample.empty()) {
        LoadOptions plain{.threads = flags.model.load.threads, .dtype = flags.model.load.dtype};
        std::vector<Recording> recordings;
        {
            Model before(flags.model.model, plain);
            stop_on_interrupt(&before);
            recordings = record(before, sample);
            stop_on_interrupt(nullptr);
        }
        Model after(staged.path(), plain);
        stop_on_interrupt(&after);
        const Likeness likeness = compare(after, sample, recordings);
        stop_on_interrupt(nullptr);
        print_likeness(likeness);
        receipt["sample"] = sample_receipt(likeness, sample.size(), after.dtype(), flags.sample);
    }
    write_text(staged.path() + "/receipt.json", receipt.dump(2) + "\n");
    staged.commit();
    return 0;
}

}  // namespace

Run declare_quantize(CLI::App& app) {
    auto flags = std::make_shared<QuantizeFlags>();
    flags->model.declare(app, true, "int8");
    app.add_option("out", flags->out, "Folder to write: a new or an empty one")
        ->type_name("OUT")
        ->required();
    app.add_option(
           "--sample", flags->sample,
           "Requests as `batch` takes them, to compare the two models on (default: built in)")
        ->type_name("FILE.jsonl");
    app.add_flag("--no-sample", flags->no_sample,
                 "Compare weights only: neither model is loaded as a whole");
    return [flags] {
        stop_on_interrupt(nullptr);
        return quantize(*flags);
    };
}

}  // namespace internvl::cli
