#include "serve/metrics.h"

#include <gtest/gtest.h>

namespace internvl {

TEST(Metrics, WritesCountersGaugesAndHistograms) {
    Metrics metrics("a \"model\"");
    metrics.add("requests_total", {"chat", "200", "stop"});
    metrics.add("requests_total", {"chat", "200", "stop"}, 2);
    metrics.set("requests_running", 4);
    metrics.observe("vit_batch_tiles", 2);
    metrics.observe("vit_batch_tiles", 3);
    metrics.observe("vit_batch_tiles", 1000);
    const std::string text = metrics.text();
    for (const char* line : {
             "# TYPE internvl_requests_total counter\n",
             "internvl_requests_total{model=\"a \\\"model\\\"\",endpoint=\"chat\",status=\"200\","
             "finish=\"stop\"} 3\n",
             "internvl_requests_running{model=\"a \\\"model\\\"\"} 4\n",
             "# TYPE internvl_vit_batch_tiles histogram\n",
             "internvl_vit_batch_tiles_bucket{model=\"a \\\"model\\\"\",le=\"1\"} 0\n",
             "internvl_vit_batch_tiles_bucket{model=\"a \\\"model\\\"\",le=\"2\"} 1\n",
             "internvl_vit_batch_tiles_bucket{model=\"a \\\"model\\\"\",le=\"4\"} 2\n",
             "internvl_vit_batch_tiles_bucket{model=\"a \\\"model\\\"\",le=\"512\"} 2\n",
             "internvl_vit_batch_tiles_bucket{model=\"a \\\"model\\\"\",le=\"+Inf\"} 3\n",
             "internvl_vit_batch_tiles_sum{model=\"a \\\"model\\\"\"} 1005\n",
             "internvl_vit_batch_tiles_count{model=\"a \\\"model\\\"\"} 3\n",
             "internvl_preemptions_total{model=\"a \\\"model\\\"\"} 0\n",  // from the start
             "\nprocess_open_fds ",
         })
        EXPECT_NE(text.find(line), std::string::npos) << line;
    EXPECT_EQ(metrics.value("requests_total", {"chat", "200", "stop"}), 3);
}

}  // namespace internvl
