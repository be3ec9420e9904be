#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/common.h"
#include "internvl/grounding.h"

namespace internvl::cli {

// --ground and --draw: a question about places in a picture, and what becomes of the answer.
struct GroundFlags {
    std::optional<std::string> phrase;
    std::string draw;  // where the picture with its boxes is written

    void declare(CLI::App&);
    bool wanted() const { return phrase || !draw.empty(); }
    // Throws UsageError unless there is exactly one picture to find something in.
    void check(const MediaFlags&) const;
    // The boxes of an answer in pixels of the picture; those without a label get the phrase.
    std::vector<NamedBox> boxes(const std::string& answer, const Photo&) const;
    void write_picture(const MediaFlags&, const std::vector<NamedBox>&) const;
};

nlohmann::ordered_json boxes_json(const std::vector<NamedBox>&);

}  // namespace internvl::cli
