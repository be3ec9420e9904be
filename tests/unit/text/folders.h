#pragma once
// Tokenizers of the golden checkpoints and, from ../shared, of real folders.
#include "support.h"
#include "text/tokenizer.h"

namespace internvl {

// Files are looked for in each folder in turn.
inline Tokenizer::ReadFile folder_reader(std::vector<std::string> folders) {
    return [folders](const std::string& name) -> std::optional<std::string> {
        for (const std::string& folder : folders)
            if (std::filesystem::exists(folder + "/" + name)) return read_text(folder + "/" + name);
        return std::nullopt;
    };
}

inline const char* const tiny_names[] = {"tiny-1b", "tiny-2b",  "tiny-26b",
                                         "tiny-4b", "tiny-40b", "tiny-76b"};

inline const Tokenizer& tiny(const std::string& name) {
    static std::map<std::string, Tokenizer> all;
    const auto found = all.find(name);
    if (found != all.end()) return found->second;
    return all[name] = Tokenizer::load(folder_reader({golden("checkpoints/" + name)}), name);
}

// internvl2-1b, -2b, -4b, -40b: real vocabularies in folders as released.
inline const Tokenizer& real(const std::string& name) {
    static std::map<std::string, Tokenizer> all;
    const auto found = all.find(name);
    if (found != all.end()) return found->second;
    const std::string base = name == "internvl2-4b"    ? "llama2"
                             : name == "internvl2-40b" ? "yi-34b"
                                                       : name;
    return all[name] =
               Tokenizer::load(folder_reader({outside("data/tokenizer_vectors/slow/" + name),
                                              outside("data/tokenizers/" + base)}),
                               name);
}

}  // namespace internvl
