#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// Corners in pixels of the original picture.
struct Box {
    float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
    bool operator==(const Box&) const = default;
};

// A box of an answer with the words that name it, "" where there are none.
struct NamedBox {
    std::string label;
    Box box;
};

// The question that the model was trained to answer with boxes (spec 10.15).
std::string grounding_prompt(const std::string& phrase);

// All boxes of an answer, `label[[x1, y1, x2, y2], ...]` with or without <ref> and <box> tags.
// Numbers are thousandths of the picture, or fractions of it (spec 10.15); corners are put in order
// and cut at the border. What is no box is passed over.
std::vector<NamedBox> parse_boxes(std::string_view text, int width, int height);

// The evaluator's reading of an answer, whatever it is: the first match of its pattern, zeros where
// that is none or has anything but numbers.
Box first_box(std::string_view text, int width, int height);
// Intersection over union as the evaluator computes it: corners out of order give 0.
float overlap(const Box&, const Box&);

}  // namespace internvl
