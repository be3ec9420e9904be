#pragma once
#include <string>

#include "io/folder.h"

namespace internvl {

// What a user means by MODEL (cli.md): a folder, a repository id in the Hugging Face cache, or a
// built-in model; an empty one means $INTERNVL_MODEL. Looks only at the disk: what is not there is
// an Error that says how to get it.
ModelFolder resolve_model(const std::string& model);

// The snapshot of ORG/NAME in the Hugging Face cache, or "".
std::string cached_snapshot(const std::string& repository);

// ORG/NAME, each as the hub allows it; so also a name of a folder and a piece of an address.
bool is_repository(const std::string& model);

// The environment as huggingface_hub reads it.
std::string hub_cache();     // HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub
std::string hub_endpoint();  // HF_ENDPOINT, https://huggingface.co; without a slash at the end
std::string hub_token();     // HF_TOKEN, the file HF_HOME/token; "" when there is none

// models--ORG--NAME
std::string repository_folder(const std::string& repository);

}  // namespace internvl
