#include "model/synth.h"

#include <memory>

#include "cli/common.h"

namespace internvl::cli {

Run declare_synth(CLI::App& app) {
    auto options = std::make_shared<SynthOptions>();
    app.add_option("--like", options->like, "Member of the family, e.g. internvl2-1b")
        ->type_name("NAME")
        ->required();
    app.add_option("--out", options->out, "Folder to write")->type_name("DIR")->required();
    app.add_option("--seed", options->seed, "Random weights of this seed")->capture_default_str();
    app.add_option("--layers", options->layers, "Fewer language layers than the real one")
        ->check(CLI::PositiveNumber);
    return [options] {
        const int64_t parameters = synthesise(*options);
        print_line(fmt::format("{}: {} parameters with random weights, like {}", options->out,
                               parameters, options->like));
        return 0;
    };
}

}  // namespace internvl::cli
