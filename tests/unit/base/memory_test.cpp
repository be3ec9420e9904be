#include "base/memory.h"

#include "support.h"

namespace internvl {

// A machine made of files.
class Machine {
  public:
    explicit Machine(const std::string& groups) {
        for (const char* name : {"proc/self", "cg/memory/job/part", "cg/job/part"})
            std::filesystem::create_directories(folder_ / name);
        folder_.write("proc/meminfo",
                      "MemTotal:       32000000 kB\nMemFree:  100 kB\nMemAvailable: 8000000 kB\n");
        folder_.write("proc/self/cgroup", groups);
    }
    void write(const std::string& file, const std::string& text) {
        folder_.write("cg/" + file, text);
    }
    int64_t available() const { return available_memory({folder_ / "proc", folder_ / "cg"}); }

  private:
    TemporaryFolder folder_;
};

TEST(AvailableMemory, IsTheMachines) {
    EXPECT_EQ(Machine("0::/\n").available(), 8'000'000 * int64_t(1024));
    EXPECT_EQ(available_memory({"/no/such/folder", "/none"}), INT64_MAX);
    EXPECT_GT(available_memory(), 0);
}

TEST(AvailableMemory, IsCutByGroupsOfVersion2) {
    Machine m("0::/job/part\n");
    m.write("job/part/memory.max", "max\n");
    m.write("job/part/memory.current", "500\n");
    EXPECT_EQ(m.available(), 8'000'000 * int64_t(1024));
    m.write("job/memory.max", "4000000000\n");  // of the group around it
    m.write("job/memory.current", "3000000000\n");
    EXPECT_EQ(m.available(), 1'000'000'000);
    m.write("job/memory.stat", "anon 9\ninactive_file 400000000\nactive_file 100000000\n");
    EXPECT_EQ(m.available(), 1'500'000'000);
    m.write("job/part/memory.max", "400\n");  // less than is in use already
    EXPECT_EQ(m.available(), 0);
}

TEST(AvailableMemory, IsCutByGroupsOfVersion1) {
    Machine m("9:name=systemd:/\n4:cpu,memory:/job\n0::/\n");
    m.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    m.write("memory/memory.usage_in_bytes", "77\n");
    m.write("memory/job/memory.limit_in_bytes", "5000000000\n");
    m.write("memory/job/memory.usage_in_bytes", "2000000000\n");
    m.write("memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 500000000\n");
    EXPECT_EQ(m.available(), 3'500'000'000);
}

// The host's path, seen from inside a container.
TEST(AvailableMemory, LooksAtTheRootWhereThePathIsNotThere) {
    Machine m("0::/docker/0123/deeper\n");
    m.write("memory.max", "1000\n");
    m.write("memory.current", "300\n");
    EXPECT_EQ(m.available(), 700);
}

}  // namespace internvl
