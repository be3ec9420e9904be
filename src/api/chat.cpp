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

static std::string system_of(const Model& model, const ChatOptions& options) {
    return options.system.empty() ? model.data().engine.system_message() : options.system;
}

Chat::Chat(const Model& model, const ChatOptions& options)
    : data_(new Data{
          model, options,
          Session(model.data().engine, system_of(model, options), options.compat_reference)}) {
    data_->session.on_tiles = options.on_tiles;
}

void Chat::reset() {
    data_->session.reset();
}

static const char* reason(Answer::End end) {
    return end == Answer::End::stop ? "stop" : end == Answer::End::length ? "length" : "cancelled";
}

Result Chat::ask(const std::string& question, const std::vector<Photo>& photos,
                 const GenerateOptions& options,
                 const std::function<bool(std::string_view)>& on_text) {
    data_->model.data().engine.cancel = false;
    std::vector<Picture> pictures;
    for (const Photo& photo : photos) pictures.push_back({photo.data().tiles, {}});
    Reply reply =
        data_->session.ask(question, std::move(pictures), options, data_->options.combine, on_text);
    Result result;
    result.text = std::move(reply.text);
    result.finish_reason = reason(reply.end);
    result.prompt = std::move(reply.prompt.text);
    result.prompt_ids = std::move(reply.prompt.ids);
    result.image_tokens = reply.image_tokens;
    result.vision_ms = reply.vision_ms;
    result.prefill_ms = reply.prefill_ms;
    result.first_token_ms = reply.vision_ms + reply.prefill_ms;
    result.per_token_ms = reply.ids.size() > 1 ? reply.decode_ms / double(reply.ids.size() - 1) : 0;
    result.ids = std::move(reply.ids);
    return result;
}

}  // namespace internvl
