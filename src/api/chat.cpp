#include "api/data.h"
#include "io/hub.h"
#include "model/tensors.h"

namespace internvl {

Model::Model(const std::string& name, const LoadOptions& options)
    : data_(std::make_shared<Data>(resolve_model(name), options)) {}

int64_t Model::parameters() const {
    return count_parameters(data_->engine.model().config).total;
}
std::string Model::dtype() const {
    return data_->engine.types().name();
}
double Model::load_ms() const {
    return data_->engine.load_ms();
}
int Model::count_tokens(std::string_view text) const {
    return int(data_->engine.tokenizer().encode_plain(text).size());
}
void Model::cancel() {
    data_->engine.cancel = true;
}

struct Chat::Data {
    Model model;  // keeps the engine alive
    ChatOptions options;
    Session session;
};

std::string system_or_default(const Engine& engine, const std::string& system) {
    return system.empty() ? engine.system_message() : system;
}

Chat::Chat(const Model& model, const ChatOptions& options)
    : data_(new Data{
          model, options,
          Session(model.data().engine, system_or_default(model.data().engine, options.system),
                  options.compat_reference)}) {
    data_->session.on_tiles = options.on_tiles;
}

void Chat::reset() {
    data_->session.reset();
}

static const char* reason(Answer::End end) {
    return end == Answer::End::stop ? "stop" : end == Answer::End::length ? "length" : "cancelled";
}

std::vector<Picture> pictures_of(const std::vector<Media>& media) {
    std::vector<Picture> pictures;
    for (const Media& m : media) {
        if (const Photo* photo = std::get_if<Photo>(&m)) {
            pictures.push_back({{photo->data(), &photo->data()->tiles}});
            continue;
        }
        const auto& video = std::get<Video>(m).data();
        int number = 0;
        for (const Tiles& frame : video->clip.frames)
            pictures.push_back({{video, &frame}, ++number});
    }
    return pictures;
}

Result to_result(Reply reply) {
    Result result;
    result.text = std::move(reply.text);
    result.finish_reason = reason(reply.end);
    result.prompt = std::move(reply.prompt.text);
    result.prompt_ids = std::move(reply.prompt.ids);
    result.image_tokens = reply.image_tokens;
    result.computed_tiles = reply.computed_tiles;
    result.cached_tokens = reply.cached_tokens;
    result.vision_ms = reply.vision_ms;
    result.prefill_ms = reply.prefill_ms;
    result.first_token_ms = reply.vision_ms + reply.prefill_ms;
    result.per_token_ms = reply.ids.size() > 1 ? reply.decode_ms / double(reply.ids.size() - 1) : 0;
    result.ids = std::move(reply.ids);
    return result;
}

Result Chat::ask(const std::string& question, const std::vector<Media>& media,
                 const GenerateOptions& options,
                 const std::function<bool(std::string_view)>& on_text) {
    data_->model.data().engine.cancel = false;
    return to_result(
        data_->session.ask(question, pictures_of(media), options, data_->options.combine, on_text));
}

}  // namespace internvl
