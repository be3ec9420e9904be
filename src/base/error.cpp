#include "base/error.h"

namespace internvl {

static std::string compose(const std::string& what, const std::string& expected,
                           const std::string& found, const std::string& where) {
    std::string text = what;
    if (!expected.empty()) text += "; expected " + expected;
    if (!found.empty()) text += (expected.empty() ? "; found " : ", found ") + found;
    if (!where.empty()) text += " (" + where + ")";
    return text;
}

Error::Error(const std::string& what, const std::string& expected, const std::string& found,
             const std::string& where)
    : std::runtime_error(compose(what, expected, found, where)) {}

}  // namespace internvl
