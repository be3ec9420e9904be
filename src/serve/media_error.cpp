#include "serve/media_error.h"

namespace internvl {
namespace {

struct Words {
    MediaFailure failure;
    int status;
    const char *picture_code, *video_code;
    const char* text;  // % stands for picture or video
};

constexpr Words table[] = {
    {MediaFailure::bad_url, 400, "invalid_image_url", "invalid_video_url",
     "the address of the % cannot be used; expected data:<type>;base64,<data>, https: or http:"},
    {MediaFailure::not_allowed, 400, "url_not_allowed", "url_not_allowed",
     "the address of the % is not allowed here"},
    {MediaFailure::not_fetched, 400, "image_fetch_failed", "video_fetch_failed",
     "the % could not be fetched from its address"},
    {MediaFailure::bad_base64, 400, "invalid_base64", "invalid_base64",
     "the base64 data of the % is empty or malformed; expected the standard alphabet"},
    {MediaFailure::not_permitted, 403, "not_permitted", "not_permitted",
     "this key may not name files of the server"},
    {MediaFailure::unsupported, 400, "unsupported_image_format", "unsupported_video_format",
     "the format of the % is not supported"},
    {MediaFailure::damaged, 400, "invalid_image", "invalid_video",
     "the % is damaged or incomplete; expected a complete, valid file"},
    {MediaFailure::too_large, 400, "image_too_large", "video_too_large", "the % is too large"},
    {MediaFailure::too_slow, 400, "media_timeout", "media_timeout",
     "decoding the % takes too long"},
    {MediaFailure::no_room, 429, "queue_full", "queue_full",
     "too many pictures and videos are being decoded at present; try again later"},
    {MediaFailure::cancelled, 499, "cancelled", "cancelled", "the request was cancelled"},
    {MediaFailure::internal, 500, "internal_error", "internal_error",
     "the % could not be decoded for a reason of the server's"},
};

}  // namespace

MediaError media_error(const MediaPart& part, MediaFailure failure, const std::string& detail) {
    const bool video = part.kind == MediaPart::Kind::video;
    for (const Words& words : table) {
        if (words.failure != failure) continue;
        std::string text = detail.empty() ? words.text : detail;
        if (const size_t at = text.find('%'); at != text.npos)
            text.replace(at, 1, video ? "video" : "picture");
        return {words.status, video ? words.video_code : words.picture_code, text, part.param};
    }
    return {500, "internal_error", "unknown failure", part.param};
}

}  // namespace internvl
