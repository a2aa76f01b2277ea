/* Offloading no-op jobs from a loop to 4 threads: throughput, CPU per job, and latency alone in
 * flight. */
#include "config.h"

#include "offload.h"
#include "peers.h"

#include <string.h>

static bench_side sides[] = {
    {.name = "ferry task", .run = offload_ferry_task},
    {.name = "ferry spawn", .run = offload_ferry_spawn},
    {.name = "ferry callback", .run = offload_ferry_callback},
    {.name = "libuv", .run = offload_uv, BENCH_UV_VERSION},
    {.name = "GTask", .run = offload_gtask, BENCH_GLIB_VERSION},
    {.name = "GThreadPool", .run = offload_gthreadpool, BENCH_GLIB_VERSION},
    {.name = "Boost.Asio", .program = "peers-asio"},
    {.name = "Go", .program = "peers-go"},
    {.name = "Tokio", .program = "peers-tokio"},
    {.name = "asyncio", .program = "peers-python", .option = "asyncio", .most = 1024},
    {.name = "uvloop", .program = "peers-python", .option = "uvloop", .most = 1024},
    {.name = "plain C, signal", .run = offload_plain_signal},
    {.name = "plain C, batch", .run = offload_plain_batch},
    {.name = "two threads, futex", .run = offload_plain_futex, .most = 1},
};
enum { SIDES = sizeof sides / sizeof *sides };

static const char *const ours[] = {"ferry task", "ferry spawn", "ferry callback"};
enum { OURS = sizeof ours / sizeof *ours };

/* Every way of Ferry against the three that have a target; one of them against all. */
static bool wanted(bool all, const bench_side *peer) {
    return strncmp(peer->name, "ferry", 5) != 0 &&
           (all || strcmp(peer->name, "libuv") == 0 || strcmp(peer->name, "Boost.Asio") == 0 ||
            strcmp(peer->name, "plain C, batch") == 0);
}

static void state(const bench_case *what, const char *mine, const char *peer, const char *value,
                  double ratio) {
    static const struct {
        long size;
        const char *peer, *value, *words;
        char op;
        double bound;
    } targets[] = {
        {64, "libuv", "rate", "jobs/s against libuv", '>', 4},
        {64, "libuv", "cpu", "CPU per job against libuv", '<', 0.3},
        {1024, "libuv", "rate", "jobs/s against libuv", '>', 3},
        {1024, "libuv", "cpu", "CPU per job against libuv", '<', 0.3},
        {1024, "plain C, batch", "rate", "jobs/s against batched plain C", '>', 0.5},
        {1, "libuv", "p50", "p50 of a round trip against libuv", '<', 0.6},
        {1, "Boost.Asio", "p99", "p99 of a round trip against Boost.Asio", '<', 1},
    };
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        char text[160];
        if (targets[i].size != what->size || strcmp(targets[i].peer, peer) != 0 ||
            strcmp(targets[i].value, value) != 0)
            continue;
        snprintf(text, sizeof text, "offload, %s, %s, %s CPU%s: %s", what->name, mine,
                 what->pinned ? "one" : "all", what->pinned ? "" : "s", targets[i].words);
        bench_target(text, ratio, targets[i].op, targets[i].bound, "times");
    }
}

static void compare(const bench_case *what, const char *value, double scale, const char *unit,
                    bool all) {
    for (int mine = 0; mine < OURS; mine++)
        for (int i = 0; i < SIDES; i++)
            if (wanted(all && mine == 0, &sides[i]))
                state(what, ours[mine], sides[i].name, value,
                      bench_compare(what, ours[mine], sides[i].name, value, scale, unit));
}

int main(int argc, char **argv) {
    static const char *const names[] = {"1 in flight", "64 in flight", "1,024 in flight",
                                        "16,384 in flight"};
    static const long sizes[] = {1, 64, 1024, 16384};
    bench_begin(argc, argv, "offload", "no-op jobs from a loop to 4 threads", NULL);
    for (int i = 0; i < SIDES; i++)
        if (sides[i].program) {
            sides[i].before = sides[i].option ? bench_python() : NULL;
            bench_probe(&sides[i]);
        }
    for (int pinned = 0; pinned < 2; pinned++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            bench_case what = {.name = names[i],
                               .size = sizes[i],
                               .threads = 4,
                               .loops = 1,
                               .ms = bench_ms(),
                               .pinned = pinned};
            if (bench_quick() && sizes[i] > 1024)
                continue;
            /* On which CPU a thread wakes up decides all, and is decided once for each process. */
            if (sizes[i] == 1 && !pinned) {
                what.times = 3;
                what.ms = bench_ms() / 2 + 1;
            }
            bench_measure(&what, sides, SIDES, bench_pieces);
            compare(&what, "rate", 1e-6, "M jobs/s", true);
            compare(&what, "cpu", 1e-3, "us CPU/job", false);
            if (sizes[i] == 1) {
                compare(&what, "p50", 1, "us, p50", true);
                compare(&what, "p99", 1, "us, p99", false);
                bench_compare(&what, "two threads, futex", "libuv", "p50", 1, "us, p50: the limit");
            }
        }
    return bench_end();
}
