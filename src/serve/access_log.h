#pragma once
#include <memory>
#include <string>

#include "base/json.h"
#include "serve/call.h"

namespace internvl {

// What the service writes down: one line a request and lines of its own life. Never what requests
// say or show, nor keys. Any thread may write.
class AccessLog {
  public:
    // `file` "": stderr. `format`: json or text. Throws UsageError when the file cannot be opened.
    AccessLog(const std::string& file, const std::string& format, const std::string& level);
    ~AccessLog();

    void request(const Call&, const std::string& client, double seconds);
    void note(const char* level, const std::string& message,
              const nlohmann::ordered_json& facts = nlohmann::ordered_json::object());
    // Opens the file anew and takes another level.
    void reopen(const std::string& level);

  private:
    struct Writer;
    std::unique_ptr<Writer> writer_;
};

}  // namespace internvl
