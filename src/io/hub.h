#pragma once
#include <string>

#include "io/folder.h"

namespace internvl {

// What a user means by MODEL (cli.md): a folder, a repository id in the Hugging Face cache, or a
// built-in model; an empty one means $INTERNVL_MODEL. Looks only at the disk: what is not there is
// an Error that says how to get it.
ModelFolder resolve_model(const std::string& model);

// The snapshot of ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, HF_HOME,
// ~/.cache/huggingface/hub), or "".
std::string cached_snapshot(const std::string& repository);

}  // namespace internvl
