#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace internvl {

// Files that the assembler put into the program.
struct BuiltinFile {
    std::string_view model;
    std::string_view name;
    std::span<const std::byte> bytes;
};

std::span<const BuiltinFile> builtin_files();
std::span<const std::byte> builtin_picture();  // a PNG

}  // namespace internvl
