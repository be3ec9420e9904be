// The files of web/, taken in by the assembler from INTERNVL_WEB_FOLDER.
#include "serve/page.h"

#include <algorithm>

#include "base/embed.h"

#define PAGE_FILES(X)                                                     \
    X(index, "/", "index.html", html)                                     \
    X(answer, "/assets/answer.js", "answer.js", script)                   \
    X(app, "/assets/app.js", "app.js", script)                            \
    X(attachments, "/assets/attachments.js", "attachments.js", script)    \
    X(boxes, "/assets/boxes.js", "boxes.js", script)                      \
    X(composer, "/assets/composer.js", "composer.js", script)             \
    X(conversation, "/assets/conversation.js", "conversation.js", script) \
    X(dom, "/assets/dom.js", "dom.js", script)                            \
    X(estimate, "/assets/estimate.js", "estimate.js", script)             \
    X(icon_svg, "/assets/icon.svg", "icon.svg", drawing)                  \
    X(markdown, "/assets/markdown.js", "markdown.js", script)             \
    X(parts_css, "/assets/parts.css", "parts.css", style)                 \
    X(picture_size, "/assets/picture_size.js", "picture_size.js", script) \
    X(server, "/assets/server.js", "server.js", script)                   \
    X(settings, "/assets/settings.js", "settings.js", script)             \
    X(sidebar, "/assets/sidebar.js", "sidebar.js", script)                \
    X(store, "/assets/store.js", "store.js", script)                      \
    X(style_css, "/assets/style.css", "style.css", style)                 \
    X(theme_css, "/assets/theme.css", "theme.css", style)                 \
    X(theme, "/assets/theme.js", "theme.js", script)                      \
    X(transcript, "/assets/transcript.js", "transcript.js", script)       \
    X(viewer, "/assets/viewer.js", "viewer.js", script)

#define EMBED(symbol, path, file, type) INTERNVL_EMBED(page_##symbol, INTERNVL_WEB_FOLDER "/" file)
PAGE_FILES(EMBED)

namespace internvl {
namespace {

constexpr std::string_view html = "text/html; charset=utf-8";
constexpr std::string_view script = "text/javascript; charset=utf-8";
constexpr std::string_view style = "text/css; charset=utf-8";
constexpr std::string_view drawing = "image/svg+xml";

std::string_view text_between(const std::byte* begin, const std::byte* end) {
    return {reinterpret_cast<const char*>(begin), size_t(end - begin)};
}

}  // namespace

#define ROW(symbol, path, file, type) \
    {path, type, text_between(internvl_page_##symbol##_begin, internvl_page_##symbol##_end)},

std::span<const PageFile> page_files() {
    static const PageFile files[] = {PAGE_FILES(ROW)};
    return files;
}

const PageFile* find_page_file(std::string_view path) {
    const auto files = page_files();
    const auto found = std::ranges::find(files, path, &PageFile::path);
    return found == files.end() ? nullptr : &*found;
}

}  // namespace internvl
