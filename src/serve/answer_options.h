#pragma once
#include "serve/fields.h"

namespace internvl {

// The fields that chat and plain completions share; `body` has passed check_fields. `chat`: the
// log-probabilities are asked for as in a chat.
AnswerOptions parse_answer_options(const nlohmann::json& body, const RequestDefaults&, bool chat,
                                   std::vector<std::string>& ignored);
// Each entry an id of the vocabulary and, if `image_ids` are barred, none of these.
std::vector<int> parse_ids(const nlohmann::json& list, const std::string& place,
                           const RequestLimits&, bool bar_image_ids);

}  // namespace internvl
