// The model card's quick start, part by part:
//
//     quick_start [MODEL [PICTURE [PICTURE [CLIP]]]]
//     quick_start MODEL PICTURE QUESTION              that question only
//
// Without arguments it asks the built-in model, whose weights are random: its answers are noise.
#include <internvl/internvl.h>

#include <filesystem>
#include <iostream>

namespace {

using internvl::Chat;
using internvl::ChatOptions;
using internvl::GenerateOptions;
using internvl::Model;
using internvl::Photo;
using internvl::Result;
using internvl::Video;

// dict(max_new_tokens=1024, do_sample=False), but for shorter answers.
GenerateOptions generation() {
    GenerateOptions options;
    options.max_new_tokens = 64;
    return options;
}

void title(const char* text) {
    std::cout << "\n== " << text << '\n';
}

void show(const std::string& question, const Result& r) {
    std::cout << "User: " << question << "\nAssistant: " << r.text << "\n-- " << r.ids.size()
              << " tokens, " << r.finish_reason << '\n';
}

// A Chat keeps the history: history=None is a new one, history=history the same one.
void pure_text(const Model& model) {
    title("pure-text conversation");
    Chat chat(model);
    for (const char* question : {"Hello, who are you?", "Can you tell me a story?"})
        show(question, chat.ask(question, {}, generation()));
}

// Pictures go with the question; there is no need to write <image>.
void single_image(const Model& model, const Photo& photo) {
    title("single-image single-round conversation");
    const std::string shortly = "Please describe the image shortly.";
    show(shortly, Chat(model).ask(shortly, {photo}, generation()));

    title("single-image multi-round conversation");
    Chat chat(model);
    const std::string detail = "Please describe the image in detail.";
    const std::string poem = "Please write a poem according to the image.";
    show(detail, chat.ask(detail, {photo}, generation()));
    show(poem, chat.ask(poem, {}, generation()));  // the picture is still in view
}

// Combined: all tiles under one <image>. Separate: `Image-1: ` and `Image-2: ` before each, which
// the card writes by hand.
void multi_image(const Model& model, const Photo& first, const Photo& second) {
    const std::string describe = "Describe the two images in detail.";
    const std::string compare =
        "What are the similarities and differences between these two images.";
    for (const bool combine : {true, false}) {
        title(combine ? "multi-image multi-round conversation, combined images"
                      : "multi-image multi-round conversation, separate images");
        ChatOptions options;
        options.combine = combine;
        Chat chat(model, options);
        show(describe, chat.ask(describe, {first, second}, generation()));
        show(compare, chat.ask(compare, {}, generation()));
    }
}

// batch_chat(): answers are computed together, and each is the one that it would be alone. Unlike
// there, a dialogue may have a history, several pictures and videos. To hear of each answer as soon
// as it is there, use Dialogues.
void batch(const Model& model, const Photo& first, const Photo& second) {
    title("batch inference, single image per sample");
    const std::string question = "Describe the image in detail.";
    std::vector<internvl::Dialogue> dialogues;
    for (const Photo& photo : {first, second}) {
        internvl::Dialogue dialogue;
        dialogue.rounds = {{question, {photo}}};
        dialogue.generate = generation();
        dialogues.push_back(dialogue);
    }
    for (const Result& r : internvl::answer_all(model, dialogues)) show(question, r);
}

// load_video(path, num_segments=8, max_num=1); `Frame1: ` and so on are put before the frames.
void video(const Model& model, const std::string& path) {
    title("video multi-round conversation");
    if (path.empty()) {
        std::cout << "left out: no clip was given\n";
        return;
    }
    internvl::VideoOptions options;
    options.num_segments = 8;
    const Video clip = Video::open(path, options);
    Chat chat(model);
    const std::string doing = "What is the red panda doing?";
    const std::string detail = "Describe this video in detail. Don't repeat.";
    show(doing, chat.ask(doing, {clip}, generation()));
    show(detail, chat.ask(detail, {}, generation()));
}

// The TextIteratorStreamer: a function that hears each piece; false would end the answer.
void streaming(const Model& model, const Photo& photo, const std::string& question) {
    title("streaming output");
    std::cout << "User: " << question << "\nAssistant: ";
    const Result r = Chat(model).ask(question, {photo}, generation(), [](std::string_view piece) {
        return bool(std::cout << piece << std::flush);
    });
    std::cout << "\n-- " << r.ids.size() << " tokens, " << r.finish_reason << '\n';
}

void quick_start(const std::vector<std::string>& given) {
    const auto argument = [&](size_t i, const char* otherwise) {
        return i < given.size() ? given[i] : otherwise;
    };
    // One load for all that follows; the type is the checkpoint's where the machine computes it.
    const Model model(argument(0, "demo"));
    // load_image(path, max_num=12): at most 12 tiles, and one of the whole picture.
    internvl::ImageOptions image;
    image.max_num = 12;
    const Photo first = Photo::open(argument(1, "assets/demo.png"), image);
    if (given.size() == 3 && !std::filesystem::exists(given[2]))
        return streaming(model, first, given[2]);
    const Photo second = Photo::open(argument(2, "assets/demo.png"), image);
    pure_text(model);
    single_image(model, first);
    multi_image(model, first, second);
    batch(model, first, second);
    video(model, argument(3, ""));
    streaming(model, first, "Please describe the image in detail.");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 5) {
        std::cerr << "usage: quick_start [MODEL [PICTURE [PICTURE [CLIP]]]]\n";
        return 2;
    }
    try {
        quick_start({argv + 1, argv + argc});
    } catch (const std::exception& e) {
        std::cerr << e.what() << '\n';
        return 1;
    }
}
