#include "model/synth.h"

#include <memory>

#include "cli/common.h"
#include "model/members.h"

namespace internvl::cli {

Run declare_synth(CLI::App& app) {
    auto options = std::make_shared<SynthOptions>();
    app.add_option("--like", options->like, "Member of the family: " + member_names())
        ->type_name("NAME")
        ->required();
    app.add_option("--out", options->out, "Folder to write")->type_name("DIR")->required();
    app.add_option("--seed", options->seed, "Random weights of this seed")->capture_default_str();
    app.add_option("--layers", options->layers, "Fewer language layers than the real one")
        ->check(CLI::PositiveNumber);
    app.add_option("--vision-layers", options->vision_layers, "Fewer layers of the vision tower")
        ->check(CLI::PositiveNumber);
    app.add_option("--max-shard-size", options->shard_bytes, "Most of a file of weights")
        ->transform(CLI::AsSizeValue(true))
        ->check(CLI::PositiveNumber)
        ->type_name("BYTES")
        ->default_str("5GB");
    app.add_flag("!--no-weights", options->weights, "Configuration and tokenizer only");
    return [options] {
        const int64_t parameters = synthesise(*options);
        print_line(fmt::format("{}: {} parameters {} random weights, like {}", options->out,
                               parameters, options->weights ? "with" : "without", options->like));
        return 0;
    };
}

}  // namespace internvl::cli
