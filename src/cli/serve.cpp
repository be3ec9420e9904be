#include <map>
#include <memory>

#include "base/log.h"
#include "cli/common.h"
#include "cli/version.h"
#include "serve/server.h"

namespace internvl::cli {

namespace {

struct ServeFlags {
    std::map<std::string, std::vector<std::string>> typed;  // by name of the setting
    std::string config;
    bool print = false, check = false;
};

std::string flag_names(const Setting& s) {
    std::string names = std::string("--") + s.name;
    if (*s.alias) names += std::string(",--") + s.alias;
    return names;
}

void declare_setting(CLI::App& app, const Setting& s, ServeFlags& flags) {
    const std::string name = s.name;
    if (name == "model") {
        app.add_option("model", flags.typed[name], s.help)->type_name("MODEL")->expected(1);
        return;
    }
    if (std::holds_alternative<bool*>(s.value) && !s.on_off) {
        app.add_flag_function(
               flag_names(s),
               [&flags, name](int64_t count) { flags.typed[name] = {count > 0 ? "on" : "off"}; },
               s.help)
            ->group(s.group);
        return;
    }
    const bool list = std::holds_alternative<std::vector<std::string>*>(s.value);
    repeatable(app.add_option(flag_names(s), flags.typed[name], s.help))
        ->multi_option_policy(list ? CLI::MultiOptionPolicy::TakeAll
                                   : CLI::MultiOptionPolicy::TakeLast)
        ->type_name(s.on_off ? "on|off"
                    : list   ? "TEXT,..."
                             : "")
        ->group(s.group);
}

int run_serve(const ServeFlags& flags) {
    ServeCall call;
    for (const auto& [name, typed] : flags.typed)
        if (!typed.empty()) call.flags.emplace_back(name, typed);
    const char* named = std::getenv("INTERNVL_CONFIG");
    call.config_file = flags.config.empty() && named ? named : flags.config;
    call.version = version;
    call.commit = commit;
    const Settings settings = load_settings(call.flags, call.config_file);
    set_log_level(parse_log_level(settings.log_level));
    if (flags.print) {
        print_line(print_settings(settings));
        return 0;
    }
    return flags.check ? check_service(call) : serve(call);
}

}  // namespace

Run declare_serve(CLI::App& app) {
    auto flags = std::make_shared<ServeFlags>();
    Settings defaults;
    for (const Setting& s : all_settings(defaults)) declare_setting(app, s, *flags);
    app.add_option("--config", flags->config, "Settings in TOML, by the names of these flags")
        ->type_name("FILE");
    app.add_flag("--print-config", flags->print, "Print all settings and end");
    app.add_flag("--check", flags->check, "Load the model, say what is wrong, and end");
    return [flags] { return run_serve(*flags); };
}

}  // namespace internvl::cli
