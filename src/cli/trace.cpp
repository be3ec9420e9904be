
#include <memory>

#include "api/data.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "cli/stages.h"
#include "io/safetensors.h"

namespace internvl::cli {

namespace {

struct TraceFlags {
    ModelOptions model;
    MediaFlags media;
    CompatFlag compat;
    std::string prompt, out, system, stages;
    bool raw = false, last_logits = false;
};

// "vision/block3", "vision", "text/logits": whether a stage was asked for.
bool wanted(const std::string& list, const std::string& stage) {
    if (list.empty()) return true;
    for (size_t at = 0; at <= list.size();) {
        const size_t end = std::min(list.find(',', at), list.size());
        const std::string name = list.substr(at, end - at);
        if (stage == name || (!name.empty() && stage.starts_with(name + "/"))) return true;
        at = end + 1;
    }
    return false;
}

int trace(const TraceFlags& flags) {
    flags.model.check();
    StageInput input{flags.media.open(),       flags.prompt,     flags.system, flags.raw,
                     flags.compat.reference(), flags.last_logits};
    Model model(flags.model.model, flags.model.for_compat(flags.compat.reference()));
    std::vector<Stage> stages;
    const Prompt prompt = run_stages(model, input, [&](const std::string& name, const View& v) {
        if (wanted(flags.stages, name)) stages.push_back({name, v});
    });
    if (stages.empty())
        throw UsageError("no stage of these names", "such as vision,text/logits", flags.stages);
    std::vector<TensorPlan> plan;
    for (const Stage& s : stages) plan.push_back({s.name, DType::f32, s.shape});
    SafetensorsWriter writer(flags.out, plan,
                             {{"prompt", prompt.text}, {"ids", nlohmann::json(prompt.ids).dump()}});
    for (const Stage& s : stages) writer.write(s.values.data(), s.values.size() * sizeof(float));
    writer.finish();
    fmt::print(stderr, "{} stages written to {}\n", stages.size(), flags.out);
    return 0;
}

}  // namespace

Run declare_trace(CLI::App& app) {
    auto flags = std::make_shared<TraceFlags>();
    flags->model.declare(app, true);
    flags->media.declare(app);
    app.add_option("-p,--prompt", flags->prompt, "The question")->required();
    app.add_option("--out", flags->out, "Where to write")
        ->type_name("FILE.safetensors")
        ->required();
    app.add_option("--system", flags->system, "System message instead of the model's own");
    app.add_option("--stages", flags->stages, "Only these, e.g. vision,text/logits")
        ->type_name("LIST");
    app.add_flag("--raw", flags->raw, "The prompt is the whole text, without a template");
    app.add_flag("--last-logits", flags->last_logits, "Logits of the last row only");
    flags->compat.declare(app);
    return [flags] { return trace(*flags); };
}

}  // namespace internvl::cli
