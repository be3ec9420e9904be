#pragma once
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace internvl {

// What is counted, under the names of docs/serving.md, and its text for Prometheus (0.0.4). Names
// and labels are fixed in one table; a name that is not in it is a mistake of the programmer. Any
// thread may count.
class Metrics {
  public:
    explicit Metrics(std::string model);

    // Values of the labels in the order of the table.
    using Labels = std::vector<std::string>;
    void add(const char* name, const Labels& = {}, double value = 1);
    void set(const char* name, double value, const Labels& = {});
    void observe(const char* name, double value, const Labels& = {});
    double value(const char* name, const Labels& = {}) const;  // of a counter or gauge, for tests

    std::string text() const;
    static std::vector<std::string> names();  // all, with the suffixes that a histogram has

  private:
    struct Series {
        double value = 0;               // or the sum
        std::vector<uint64_t> buckets;  // not cumulative, the last one is +Inf
    };
    using Family = std::map<Labels, Series>;
    Series& series(const char* name, const Labels&);

    std::string model_;
    mutable std::mutex mutex_;
    std::vector<Family> families_;  // as in the table
};

}  // namespace internvl
