#include <fmt/ranges.h>

#include <memory>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "io/hub.h"
#include "text/tokenizer.h"

namespace internvl::cli {

namespace {

struct TokenizeFlags {
    ModelOptions model;
    CompatFlag compat;
    std::optional<std::string> text;
    std::string file;
    bool decode = false, json_lines = false;
};

std::vector<int> ids_of(const nlohmann::json& list, const std::string& where) {
    std::vector<int> ids;
    for (const auto& id : list) {
        if (!id.is_number_integer())
            throw Error("token ids are whole numbers", "", id.dump(), where);
        ids.push_back(id.get<int>());
    }
    return ids;
}

// Numbers apart by anything that is no digit: "1, 2 3", "[1,2,3]".
std::vector<int> parse_ids(const std::string& text) {
    std::string spaced = text;
    for (char& c : spaced)
        if (!isdigit(static_cast<unsigned char>(c)) && c != '-') c = ' ';
    std::istringstream in(spaced);
    std::vector<int> ids;
    for (int id; in >> id;) ids.push_back(id);
    return ids;
}

nlohmann::ordered_json answer_line(const Tokenizer& t, const nlohmann::json& line, bool reference,
                                   size_t number) {
    const std::string where = fmt::format("line {}", number);
    if (line.is_object() && line.contains("text") && line["text"].is_string()) {
        const std::string text = line["text"];
        return {{"ids", reference ? t.encode(text) : t.encode_plain(text)}};
    }
    if (line.is_object() && line.contains("ids") && line["ids"].is_array()) {
        const std::vector<int> ids = ids_of(line["ids"], where);
        return {{"text", t.decode(ids, false)}, {"text_without_specials", t.decode(ids, true)}};
    }
    throw Error("malformed line", R"({"text": ...} or {"ids": [...]})", line.dump().substr(0, 80),
                where);
}

int tokenize_lines(const Tokenizer& t, const std::string& input, bool reference) {
    std::istringstream in(input);
    size_t number = 0;
    for (std::string line; std::getline(in, line);) {
        ++number;
        if (line.empty()) continue;
        print_line(
            answer_line(t, parse_json(line, fmt::format("line {}", number)), reference, number)
                .dump());
    }
    return 0;
}

int tokenize(const TokenizeFlags& flags) {
    const ModelFolder folder = resolve_model(flags.model.model);
    const Tokenizer t =
        Tokenizer::load([&](const std::string& name) { return folder.read(name); }, folder.where());
    if (flags.text && !flags.file.empty()) throw UsageError("give --text or a file, not both");
    const std::string input =
        flags.text ? *flags.text : read_input(flags.file.empty() ? "-" : flags.file);
    const bool reference = flags.compat.reference();
    if (flags.json_lines) return tokenize_lines(t, input, reference);
    if (flags.decode) {
        print_line(t.decode(parse_ids(input), false));
        return 0;
    }
    print_line(
        fmt::format("{}", fmt::join(reference ? t.encode(input) : t.encode_plain(input), " ")));
    return 0;
}

}  // namespace

Run declare_tokenize(CLI::App& app) {
    auto flags = std::make_shared<TokenizeFlags>();
    flags->model.declare(app, false);
    app.add_option("file", flags->file, "Text file, - for stdin (default)")->type_name("FILE");
    app.add_option("--text", flags->text, "The text itself");
    app.add_flag("--decode", flags->decode, "Ids to text");
    app.add_flag("--jsonl", flags->json_lines,
                 R"(Lines {"text": ...} or {"ids": [...]} in, answers in order out)");
    flags->compat.declare(app, "reference");
    return [flags] { return tokenize(*flags); };
}

}  // namespace internvl::cli
