#include "internvl/grounding.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace internvl {

namespace {

using Corners = std::array<double, 4>;

constexpr std::string_view blanks = " \t\n\r\f\v";

std::string_view trimmed(std::string_view text, std::string_view what) {
    const size_t begin = text.find_first_not_of(what);
    if (begin == text.npos) return {};
    return text.substr(begin, text.find_last_not_of(what) - begin + 1);
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// What Python's float() takes: blanks around, single underscores between digits, inf and nan, but
// no hexadecimal numbers.
std::optional<double> python_float(std::string_view text) {
    text = trimmed(text, blanks);
    std::string plain;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool between =
            i > 0 && i + 1 < text.size() && is_digit(text[i - 1]) && is_digit(text[i + 1]);
        if (text[i] == '_' && between) continue;
        plain += text[i];
    }
    const bool plus = plain.starts_with('+');
    if (plus) plain.erase(0, 1);
    if ((plus && plain.starts_with('-')) || plain.find('(') != plain.npos) return std::nullopt;
    double value = 0;
    const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
    if (error != std::errc() || end != plain.data() + plain.size()) return std::nullopt;
    return value;
}

// In fp32 and in this order, as the evaluator's tensors.
Box scaled(const Corners& corners, int width, int height) {
    std::array<float, 4> c;
    std::ranges::transform(corners, c.begin(), [](double x) { return float(x); });
    if (c[0] + c[1] + c[2] + c[3] >= 4)
        for (float& x : c) x /= 1000;
    const float w = float(width), h = float(height);
    return {c[0] * w, c[1] * h, c[2] * w, c[3] * h};
}

// The groups of \[*\[(.*?),(.*?),(.*?),(.*?)\]\]* where it first matches: all opening brackets,
// then as little as possible up to three commas and a closing bracket, within one line.
std::optional<std::array<std::string_view, 4>> first_match(std::string_view text) {
    // Where the first bracket of a line finds too little behind it, the others do too.
    for (size_t at = text.find('['), end; at != text.npos; at = text.find('[', end)) {
        size_t from = std::min(text.find_first_not_of('[', at), text.size());
        end = std::min(text.find('\n', from), text.size());
        const std::string_view line = text.substr(0, end);
        std::array<std::string_view, 4> groups;
        size_t n = 0;
        for (; n < 4; ++n) {
            const size_t stop = line.find(n < 3 ? ',' : ']', from);
            if (stop == line.npos) break;
            groups[n] = line.substr(from, stop - from);
            from = stop + 1;
        }
        if (n == 4) return groups;
    }
    return std::nullopt;
}

// "[1, 2, 3, 4]" at the beginning of the text, numbers of a picture in it; its length, or 0.
size_t read_corners(std::string_view text, Corners& corners) {
    text = text.substr(0, 128);  // more than four numbers need
    size_t at = 1;
    for (size_t n = 0; n < 4; ++n) {
        const size_t end = text.find_first_of(",]", at);
        if (end == text.npos || (text[end] == ']') != (n == 3)) return 0;
        const std::string_view number = trimmed(text.substr(at, end - at), blanks);
        if (number.empty() || number.find_first_not_of("0123456789.") != number.npos) return 0;
        const auto value = python_float(number);
        if (!value || *value > 1000) return 0;
        corners[n] = *value;
        at = end + 1;
    }
    return at;
}

Box inside(const Box& box, int width, int height) {
    const float w = float(width), h = float(height);
    const auto [left, right] =
        std::minmax({std::clamp(box.x1, 0.0f, w), std::clamp(box.x2, 0.0f, w)});
    const auto [top, bottom] =
        std::minmax({std::clamp(box.y1, 0.0f, h), std::clamp(box.y2, 0.0f, h)});
    return {left, top, right, bottom};
}

// What names a box in the text between the one before and it: the last <ref>, else the words since
// the last sentence. "" when there is only punctuation.
std::string label_in(std::string_view text) {
    const size_t close = text.rfind("</ref>"), open = text.rfind("<ref>", close);
    if (close != text.npos && open != text.npos && open + 5 <= close)
        return std::string(trimmed(text.substr(open + 5, close - open - 5), blanks));
    for (const std::string_view end : {"\n", ". ", "。", "</box>", "<ref>"})
        if (const size_t at = trimmed(text, blanks).rfind(end); at != text.npos)
            text = trimmed(text, blanks).substr(at + end.size());
    std::string label(text);
    for (const std::string_view tag : {"<box>", "</ref>", "<quad>", "</quad>"})
        for (size_t at; (at = label.find(tag)) != label.npos;) label.erase(at, tag.size());
    return std::string(trimmed(label, " \t\n\r\f\v,.;:-*[]()"));
}

}  // namespace

std::string grounding_prompt(const std::string& phrase) {
    return "Please provide the bounding box coordinate of the region this sentence describes: "
           "<ref>" +
           phrase + "</ref>";
}

std::vector<NamedBox> parse_boxes(std::string_view text, int width, int height) {
    std::vector<NamedBox> boxes;
    std::string label;
    size_t after = 0;  // the box before
    for (size_t at = text.find('['); at != text.npos;) {
        Corners corners;
        const size_t length = read_corners(text.substr(at), corners);
        if (length > 0) {
            // Boxes of one list, or of lists side by side, share their name.
            if (const std::string own = label_in(text.substr(after, at - after)); !own.empty())
                label = own;
            boxes.push_back({label, inside(scaled(corners, width, height), width, height)});
            after = at + length;
        }
        at = text.find('[', at + std::max<size_t>(length, 1));
    }
    return boxes;
}

Box first_box(std::string_view text, int width, int height) {
    const auto groups = first_match(text);
    if (!groups) return {};
    Corners corners;
    for (size_t n = 0; n < 4; ++n) {
        const auto value = python_float((*groups)[n]);
        if (!value) return {};
        corners[n] = *value;
    }
    return scaled(corners, width, height);
}

float overlap(const Box& a, const Box& b) {
    const auto area = [](const Box& box) { return (box.x2 - box.x1) * (box.y2 - box.y1); };
    const float width = std::max(0.0f, std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
    const float height = std::max(0.0f, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
    const float shared = width * height;
    return shared / (area(a) + area(b) - shared);
}

}  // namespace internvl
