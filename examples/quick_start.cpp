// Asks a model about a picture: quick_start MODEL PICTURE QUESTION
#include <internvl/internvl.h>

#include <iostream>

int main(int argc, char** argv) {
    if (argc != 4) return std::cerr << "usage: quick_start MODEL PICTURE QUESTION\n", 2;
    try {
        internvl::Model model(argv[1]);
        internvl::Chat chat(model);
        internvl::GenerateOptions options;
        options.max_new_tokens = 64;
        const auto print = [](std::string_view piece) {
            return bool(std::cout << piece << std::flush);
        };
        const auto first = chat.ask(argv[3], {internvl::Photo::open(argv[2])}, options, print);
        std::cout << "\n-- " << first.ids.size() << " tokens, " << first.finish_reason << '\n';
        std::cout << chat.ask("Tell me more.", {}, options).text << '\n';
    } catch (const std::exception& e) {
        std::cerr << e.what() << '\n';
        return 1;
    }
}
