// Conversations as the original's data set labels them, and the order in which it takes samples.
#include "train/labels.h"
#include "reference.h"
#include "train/forward.h"
#include "train/packing.h"
#include "train/sampler.h"

namespace internvl {

static Tokenizer tokenizer_of(const std::string& name) {
    const ModelFolder folder = ModelFolder::open(golden("checkpoints/" + name));
    return Tokenizer::load([&](const std::string& file) { return folder.read(file); }, name);
}

static int pad_token_of(const std::string& name, const Tokenizer& tokenizer) {
    const auto config = read_json(golden("checkpoints/" + name + "/tokenizer_config.json"));
    return tokenizer.find(config["pad_token"].get<std::string>()).value();
}

static std::vector<Utterance> utterances_of(const nlohmann::json& conversations) {
    std::vector<Utterance> list;
    for (const auto& u : conversations) list.push_back({u["from"], u["value"]});
    return list;
}

static std::string template_name(const testing::TestParamInfo<const char*>& info) {
    const std::string name = info.param;
    return name.substr(0, name.find('-'));
}

struct Labels : testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Every, Labels,
                         testing::Values("Hermes-2", "internlm2-chat", "phi3-chat", "internvl2_5"),
                         template_name);

TEST_P(Labels, OfConversations) {
    const ChatTemplate& t = find_template(GetParam());
    std::map<std::string, Tokenizer> tokenizers;
    int rejected = 0;
    for (const auto& line : read_json_lines(golden("train/labels/" + t.name + ".jsonl"))) {
        const std::string checkpoint = line["checkpoint"],
                          what = checkpoint + ", " + line["case"].get<std::string>();
        if (!tokenizers.count(checkpoint)) tokenizers.emplace(checkpoint, tokenizer_of(checkpoint));
        const Tokenizer& tokenizer = tokenizers.at(checkpoint);
        const std::vector<Utterance> messages = utterances_of(line["conversations"]);
        const auto pictures = line["num_image_tokens"].get<std::vector<int>>();
        const LabelOptions options{t.default_system, pictures, line["max_length"],
                                   pad_token_of(checkpoint, tokenizer)};
        const auto& expected = line["expect"];
        if (expected.contains("error")) {
            EXPECT_THROW(label_conversation(t, tokenizer, messages, options), Error) << what;
            ++rejected;
            continue;
        }
        const LabelledSample got = label_conversation(t, tokenizer, messages, options);
        auto ids = expand_ids(expected["input_ids"]), labels = expand_ids(expected["labels"]);
        if (line["pad_to_max_length"]) {  // samples are never padded here
            for (size_t i = got.sample.ids.size(); i < ids.size(); ++i)
                EXPECT_EQ(labels[i], ignored_label);
            ids.resize(got.sample.ids.size());
            labels.resize(ids.size());
        }
        EXPECT_EQ(got.sample.ids, ids) << what;
        EXPECT_EQ(got.sample.labels, labels) << what;
        EXPECT_EQ(got.mismatch, !expected["warning"].is_null()) << what;
    }
    EXPECT_GE(rejected, 3);
}

TEST(Sampler, PutsLikeLengthsTogether) {
    const nlohmann::json golden_sampler = read_json(golden("train/sampler.json"));
    for (const auto& c : golden_sampler["length_grouped"])
        EXPECT_EQ(length_grouped_order(c["lengths"].get<std::vector<int64_t>>(),
                                       c["permutation"].get<std::vector<int>>(), c["batch_size"],
                                       c["world_size_times_accumulation"]),
                  c["order"].get<std::vector<int>>());
}

TEST(Sampler, EstimatesLengths) {
    const nlohmann::json golden_sampler = read_json(golden("train/sampler.json"));
    for (const auto& c : golden_sampler["estimated_length"]) {
        const Tokenizer tokenizer = tokenizer_of(c["checkpoint"]);
        const int64_t tiles =
            c["max_dynamic_patch"].get<int64_t>() + c["use_thumbnail"].get<bool>();
        LengthEstimate estimate(tokenizer, 256 * tiles);
        std::vector<int64_t> lengths;
        for (const auto& sample : c["samples"])
            lengths.push_back(sample.contains("length")
                                  ? sample["length"].get<int64_t>()
                                  : estimate.of(utterances_of(sample["conversations"])));
        EXPECT_EQ(lengths, c["length"].get<std::vector<int64_t>>());
    }
}

static PackPart part_of(const nlohmann::json& sample) {
    PackPart part;
    part.sample = {sample["input_ids"], sample["labels"], 0};
    for (const auto& tile : sample["pixel_values"]) part.tiles.push_back(tile[0].get<int64_t>());
    part.pictures = sample["image_flags"][0] == 1;
    return part;
}

static void expect_pack(const Pack& got, const nlohmann::json& expected, const std::string& what) {
    std::vector<int> ids, labels, positions, flags;
    std::vector<int64_t> tiles;
    for (const PackPart& p : got.parts) {
        ids.insert(ids.end(), p.sample.ids.begin(), p.sample.ids.end());
        labels.insert(labels.end(), p.sample.labels.begin(), p.sample.labels.end());
        for (size_t i = 0; i < p.sample.ids.size(); ++i)
            positions.push_back(p.sample.first_position + int(i));
        tiles.insert(tiles.end(), p.tiles.begin(), p.tiles.end());
        flags.insert(flags.end(), p.tiles.size(), p.pictures);
    }
    EXPECT_EQ(ids, expected["input_ids"].get<std::vector<int>>()) << what;
    EXPECT_EQ(labels, expected["labels"].get<std::vector<int>>()) << what;
    EXPECT_EQ(positions, expected["position_ids"].get<std::vector<int>>()) << what;
    // What the original's strict mode adds are tiles that nobody sees.
    auto expected_tiles = expected["tile_ids"].get<std::vector<int64_t>>();
    auto expected_flags = expected["image_flags"].get<std::vector<int>>();
    for (; expected_tiles.size() > tiles.size() && expected_flags.back() == 0;
         expected_tiles.pop_back(), expected_flags.pop_back()) {
    }
    EXPECT_EQ(tiles, expected_tiles) << what;
    EXPECT_EQ(flags, expected_flags) << what;
}

// Where its parts begin, and what a label of each weighs.
static void expect_collated(const Pack& got, const nlohmann::json& expected) {
    std::vector<int64_t> begins{0};
    for (const PackPart& p : got.parts)
        begins.push_back(begins.back() + int64_t(p.sample.ids.size()));
    auto expected_begins = expected["cu_seqlens"].get<std::vector<int64_t>>();
    if (expected["statistics"][1] > 0) expected_begins.pop_back();  // padding
    EXPECT_EQ(begins, expected_begins);
    for (const auto& [kind, weighting] : {std::pair("token", Weighting::token),
                                          {"sample", Weighting::sample},
                                          {"square", Weighting::square}})
        for (size_t part = 0; part < got.parts.size(); ++part) {
            const Sample& s = got.parts[part].sample;
            for (size_t i = 0; i < s.ids.size(); ++i)
                EXPECT_FLOAT_EQ(
                    s.labels[i] == ignored_label ? 0 : float(label_weight(s, weighting)),
                    expected["loss_weight"][kind][size_t(begins[part]) + i].get<float>());
        }
}

// The original stops at pictures of several tiles that are cut; here the packs before that count.
TEST(Packer, FillsPacks) {
    const auto json = read_json(golden("train/packed.json"));
    for (const auto& s : json["scenarios"]) {
        const auto& options = s["options"];
        Packer packer({options["num_images_expected"], options["max_packed_tokens"],
                       options["max_buffer_size"], options["allow_overflow"], 2, 91, 92, 93});
        const size_t arrivals = s["arrival"].size() - !s["error"].is_null();
        size_t next = 0;
        const auto compare = [&](const std::vector<Pack>& packs, size_t arrived) {
            for (const Pack& pack : packs) {
                ASSERT_LT(next, s["emitted"].size()) << s["name"];
                const auto& expected = s["emitted"][next++];
                EXPECT_EQ(arrived, expected["after_arrivals"].get<size_t>()) << s["name"];
                expect_pack(pack, expected, s["name"]);
                for (const auto& c : s["collated"])
                    if (c["buffer"] == next - 1) expect_collated(pack, c);
            }
        };
        for (size_t i = 0; i < arrivals; ++i) {
            const auto& [stream, index] = s["arrival"][i].get<std::pair<std::string, size_t>>();
            const auto& samples = s["streams"][size_t(std::stoi(stream.substr(1)))];
            compare(packer.add(part_of(samples[index])), i + 1);
        }
        if (s["error"].is_null()) compare(packer.finish(), arrivals);
        EXPECT_EQ(next, s["emitted"].size()) << s["name"];
    }
}

TEST(Packer, CutsBetweenPicturesOfSeveralTiles) {
    Packer packer({.tiles = 8,
                   .tokens = 10,
                   .open = 1,
                   .tokens_per_tile = 2,
                   .picture_begin = 91,
                   .context = 92,
                   .picture_end = 93});
    // Two pictures, of two tiles and of one, with an answer behind each.
    const std::vector<int> ids{91, 92, 92, 92, 92, 93, 1, 2, 91, 92, 92, 93, 3, 4};
    std::vector<int> labels = ids;
    for (int& label : labels)
        if (label > 90) label = ignored_label;
    const std::vector<Pack> ready = packer.add({{ids, labels}, {10, 11, 20}, true});
    ASSERT_EQ(ready.size(), 1u);  // two pieces, one of which may be open
    EXPECT_EQ(ready[0].parts[0].tiles, (std::vector<int64_t>{10, 11}));
    EXPECT_EQ(ready[0].tokens(), 8);
    const std::vector<Pack> rest = packer.finish();
    ASSERT_EQ(rest.size(), 1u);
    EXPECT_EQ(rest[0].parts[0].tiles, std::vector<int64_t>{20});
    EXPECT_EQ(rest[0].parts[0].sample.first_position, 8);
    Packer small({.tiles = 8,
                  .tokens = 4,
                  .tokens_per_tile = 2,
                  .picture_begin = 91,
                  .context = 92,
                  .picture_end = 93});
    EXPECT_THROW(small.add({{ids, labels}, {10, 11, 20}, true}), Error);
}

}  // namespace internvl
