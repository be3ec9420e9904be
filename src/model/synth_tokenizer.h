#pragma once
#include <map>
#include <string>

#include "model/members.h"

namespace internvl {

// The files of a tokenizer of this length and kind that knows single bytes and the tokens with a
// meaning, nothing else: name -> contents.
std::map<std::string, std::string> tokenizer_files(const MemberTokenizer&);

}  // namespace internvl
