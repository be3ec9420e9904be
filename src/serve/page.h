#pragma once
#include <span>
#include <string_view>

namespace internvl {

// A file of the web page, taken into the program.
struct PageFile {
    std::string_view path;  // of the URL: "/" or "/assets/..."
    std::string_view content_type;
    std::string_view bytes;
};

std::span<const PageFile> page_files();

// The file at the path of a URL (without its query), or null. Needs no key: nothing in it is
// secret.
const PageFile* find_page_file(std::string_view path);

// The Content-Security-Policy that goes with each of them: nothing inline, nothing from elsewhere.
inline constexpr std::string_view page_policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

}  // namespace internvl
