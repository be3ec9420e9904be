#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "serve/metrics.h"
#include "serve/settings.h"
#include "support.h"

namespace internvl {

// Names of metrics in a file of deploy/.
static std::set<std::string> names_in(const std::string& file) {
    const std::string text = read_text(std::string(INTERNVL_SOURCE_DIR) + "/deploy/" + file);
    EXPECT_FALSE(text.empty()) << file;
    static const std::regex name("\\b(internvl|process)_[a-z_]+");
    std::set<std::string> names;
    for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at)
        names.insert(at->str());
    return names;
}

TEST(Deploy, NamesOnlyMetricsThatAreCounted) {
    const std::vector<std::string> known = Metrics::names();
    const std::set<std::string> all(known.begin(), known.end());
    for (const char* file : {"grafana-dashboard.json", "alerts.yaml", "kubernetes.yaml"})
        for (const std::string& name : names_in(file))
            EXPECT_TRUE(all.contains(name)) << file << " has " << name;
}

TEST(Deploy, DashboardShowsEveryMetricOfTheService) {
    const std::set<std::string> shown = names_in("grafana-dashboard.json");
    for (std::string name : Metrics::names()) {
        if (name.ends_with("_sum") || name.ends_with("_count") || name.starts_with("process_"))
            continue;
        // These say what was, not how it goes: alerts and tables use them.
        if (name == "internvl_build_info" || name == "internvl_draining" ||
            name == "internvl_config_reloads_total" || name.starts_with("internvl_request_") ||
            name.starts_with("internvl_vit_cache_"))
            continue;
        EXPECT_TRUE(shown.contains(name)) << name;
    }
}

TEST(Deploy, DocumentationNamesEverySetting) {
    const std::string text = read_text(std::string(INTERNVL_SOURCE_DIR) + "/docs/serving.md");
    Settings settings;
    for (const Setting& s : all_settings(settings))
        if (s.name != std::string("model"))
            EXPECT_NE(text.find("| `--" + std::string(s.name) + "`"), std::string::npos) << s.name;
}

}  // namespace internvl
