#include "text/chat_template.h"

#include "base/digest.h"
#include "base/error.h"
#include "support.h"

namespace internvl {

static size_t count_points(const std::string& text) {
    size_t points = 0;
    for (const char c : text) points += (uint8_t(c) & 0xc0) != 0x80;
    return points;
}

// Spec 6.1: SHA-256 and length of one dialogue.
TEST(ChatTemplate, SpecVectors) {
    const struct {
        const char *name, *sha256, *stop;
        size_t points;
    } expected[] = {
        {"Hermes-2", "92721865a777efbb", "<|im_end|>", 211},
        {"internlm2-chat", "92721865a777efbb", "<|im_end|>", 211},
        {"phi3-chat", "46467c2748b6b2cc", "<|end|>", 159},
        {"internvl2_5", "0e4c2af53dc622b7", "<|im_end|>", 214},
    };
    const Turn turns[] = {{"<image>\nhi", "yo"}, {"ok?", std::nullopt}};
    for (const auto& row : expected) {
        const ChatTemplate& chat = find_template(row.name);
        const std::string text = render(chat, chat.default_system, turns);
        EXPECT_EQ(sha256_hex(text.data(), text.size()).substr(0, 16), row.sha256) << row.name;
        EXPECT_EQ(count_points(text), row.points) << row.name;
        EXPECT_EQ(chat.stop, row.stop);
    }
    EXPECT_THROW(find_template("vicuna"), Error);
}

TEST(ChatTemplate, EmptyMessagesAndAnotherSystemMessage) {
    const Turn empty[] = {{"", std::nullopt}};
    EXPECT_EQ(render(find_template("Hermes-2"), "s", empty),
              "<|im_start|>system\ns<|im_end|><|im_start|>user\n<|im_start|>assistant\n");
    const Turn one[] = {{"a", "b"}, {"c", std::nullopt}};
    EXPECT_EQ(render(find_template("phi3-chat"), "Be brief.", one),
              "<|system|>\nBe brief.<|end|><|user|>\na<|end|><|assistant|>\nb<|end|><|user|>\n"
              "c<|end|><|assistant|>\n");
    EXPECT_EQ(render(find_template("internvl2_5"), "", one),
              "<|im_start|>system\n<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
              "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
              "<|im_start|>assistant\n");
}

TEST(ChatTemplate, PicturesReplaceMarksInOrder) {
    const int two[] = {1, 2};
    EXPECT_EQ(expand_images("<image> <image> <image>", two, 1),
              "<img><IMG_CONTEXT></img> <img><IMG_CONTEXT><IMG_CONTEXT></img> <image>");
    EXPECT_EQ(expand_images("none", two, 1), "none");
}

}  // namespace internvl
