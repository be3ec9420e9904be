#pragma once
#include <stdexcept>
#include <string>

namespace internvl {

// A mistake of the user or of outside data: what is wrong, what was expected, what was found, and
// where (a path, an option, a line). Shown as `WHAT; expected EXPECTED, found FOUND (WHERE)`; empty
// parts are left out. A mistake of the programmer is an assert, never an Error.
struct Error : std::runtime_error {
    explicit Error(const std::string& what, const std::string& expected = {},
                   const std::string& found = {}, const std::string& where = {});
};

// The command line itself is wrong (exit status 2); everything else that fails is a plain Error
// (status 1).
struct UsageError : Error {
    using Error::Error;
};

}  // namespace internvl
