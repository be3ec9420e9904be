#include "internvl/grounding.h"

#include <cmath>

#include "support.h"

namespace internvl {

TEST(Grounding, AsksAsTheModelWasTrained) {
    EXPECT_EQ(grounding_prompt("the dog"),
              "Please provide the bounding box coordinate of the region this sentence describes: "
              "<ref>the dog</ref>");
}

// What Python's `re` and `float` make of the evaluator's pattern, on a picture of 640 x 480.
TEST(FirstBox, IsTheEvaluators) {
    const Box dog{64, 96, 320, 384}, none{};
    const std::pair<const char*, Box> cases[] = {
        {"dog[[100, 200, 500, 800]]", dog},
        {"[[0.1,0.2,0.5,0.8]]", dog},
        {"[1,2,3]", none},
        {"[[1,2,x,4]]", none},
        {"", none},
        {"no box", none},
        {"[[500,800,100,200]]", {320, 384, 64, 96}},
        {"two [[100,200,300,400]] and [[1,2,3,4]]", {64, 96, 192, 192}},
        {"[[100,200,500,800],[1,2,3,4]]", dog},
        {"[[1_00, +2e2,\t500 ,8_00]]", dog},
        {"[[[100,200,500,800]]]", dog},
        {"x [[100,200,500,800]", dog},
        {"[1,2,3] [4,5,6,7]", none},             // the third number is "3] [4"
        {"[a] [[100,200,300,400]]", none},       // the first one is "a] [[100"
        {"[ [100,200,300,400]]", none},          // and here " [100"
        {"[1,2,\n3,4] [100,200,500,800]", dog},  // a match stays within a line
        {"[[1,2,3,4,5]]", none},
        {"[[0x10,2,3,4]]", none},
        {"[[1__0,2,3,4]]", none},
        {"[[+-1,2,3,4]]", none},
        {"[[,,,]]", none},
        {"[,[1,2,3,4]", none},
        {"[[1,2,3", none},
        {"[", none},
        {"[[1,1,1,0.9]]", {640, 480, 640, 432}},  // a sum below 4: fractions
    };
    for (const auto& [text, box] : cases) {
        const Box got = first_box(text, 640, 480);
        EXPECT_NEAR(got.x1, box.x1, 1e-4) << text;
        EXPECT_NEAR(got.y1, box.y1, 1e-4) << text;
        EXPECT_NEAR(got.x2, box.x2, 1e-4) << text;
        EXPECT_NEAR(got.y2, box.y2, 1e-4) << text;
    }
    EXPECT_NEAR(first_box("[[1,1,1,1]]", 640, 480).x1, 0.64, 1e-6);  // a sum of 4: thousandths
    EXPECT_NEAR(first_box("[[-5,10,20,30]]", 640, 480).x1, -3.2, 1e-5);
    EXPECT_TRUE(std::isinf(first_box("[[inf,1,2,3]]", 640, 480).x1));
}

TEST(Overlap, IsTheEvaluators) {
    const Box truth{70, 100, 330, 390};
    EXPECT_NEAR(overlap(first_box("dog[[100, 200, 500, 800]]", 640, 480), truth), 0.908765, 1e-6);
    EXPECT_EQ(overlap(first_box("[[500,800,100,200]]", 640, 480), truth), 0);
    EXPECT_EQ(overlap(first_box("no box", 640, 480), truth), 0);
    EXPECT_EQ(overlap(truth, truth), 1);
}

// "label:x1,y1,x2,y2 ..." on a picture of 1000 x 1000.
static std::string found(std::string_view text) {
    std::string all;
    for (const NamedBox& b : parse_boxes(text, 1000, 1000)) {
        std::ostringstream out;
        out << b.label << ':' << std::lround(b.box.x1) << ',' << std::lround(b.box.y1) << ','
            << std::lround(b.box.x2) << ',' << std::lround(b.box.y2);
        all += all.empty() ? "" : " ";
        all += out.str();
    }
    return all;
}

TEST(ParseBoxes, FindsAllWithTheirNames) {
    EXPECT_EQ(found("dog[[100, 200, 500, 800]]"), "dog:100,200,500,800");
    EXPECT_EQ(found("<ref>dog</ref><box>[[100, 200, 500, 800]]</box>"), "dog:100,200,500,800");
    EXPECT_EQ(found("<ref>a dog</ref> <box> [[1,2,3,4],[5,6,7,8]] </box>, "
                    "<ref>cat</ref><box>[[9,10,11,12]]</box>"),
              "a dog:1,2,3,4 a dog:5,6,7,8 cat:9,10,11,12");
    EXPECT_EQ(found("Sure. The dog [[1,2,3,4]], the cat: [[5,6,7,8]]"),
              "The dog:1,2,3,4 the cat:5,6,7,8");
    EXPECT_EQ(found("1st line\ndog[1,2,3,4] [5,6,7,8]"), "dog:1,2,3,4 dog:5,6,7,8");
    EXPECT_EQ(found("[[1,2,3,4]]"), ":1,2,3,4");
    EXPECT_EQ(found("[[0.1,0.2,0.5,1]]"), ":100,200,500,1000");
    EXPECT_EQ(found("狗[[1,2,3,4]]"), "狗:1,2,3,4");
}

TEST(ParseBoxes, PutsCornersInOrderAndInsideThePicture) {
    EXPECT_EQ(found("[[500,800,100,200]]"), ":100,200,500,800");
    const auto boxes = parse_boxes("[[0,0,1000,1000]]", 333, 77);
    ASSERT_EQ(boxes.size(), 1u);
    EXPECT_EQ(boxes[0].box, (Box{0, 0, 333, 77}));
    EXPECT_EQ(found("[[0,0,2,1]]"), ":0,0,1000,1000");
}

TEST(ParseBoxes, PassesOverWhatIsNoBox) {
    for (const char* text : {"",
                             "[",
                             "]",
                             "[[",
                             "[]",
                             "[[]]",
                             "[1,2,3]",
                             "[[1,2,x,4]]",
                             "[[1,2,3,4",
                             "[[,,,]]",
                             "[1,2,3,4,5]",
                             "[2020, 2021, 2022, 2023]",
                             "[-1,2,3,4]",
                             "[1e2,2,3,4]",
                             "[1.2.3,2,3,4]",
                             "[nan,2,3,4]",
                             "[1;2;3;4]",
                             "<ref>",
                             "</ref><ref>",
                             "<box>[[</box>",
                             "[[1,2,3]]]]]]",
                             "[99999999999999999999999999,2,3,4]"})
        EXPECT_EQ(found(text), "") << text;
    EXPECT_EQ(found("[[1,2,x,4]] dog[[5,6,7,8]]"), "1,2,x,4]] dog:5,6,7,8");
    EXPECT_EQ(found("[[1,2,x,4],[5,6,7,8]]").substr(0, 1), "1");
    // Long ones take no longer than they should.
    for (const char* part : {"[", "[1,", "[\n", "[[1,2,3]", "<ref>[1,2,3,"}) {
        std::string text;
        for (int i = 0; i < 300'000; ++i) text += part;
        EXPECT_EQ(parse_boxes(text, 10, 10).size(), 0u);
        EXPECT_EQ(first_box(text, 10, 10), Box());
    }
}

}  // namespace internvl
