/* What a job costs with more threads, and with more loops on one executor: 1,024 jobs in flight. */
#include "config.h"

#include "offload.h"
#include "peers.h"

static void threads_cases(bool pinned) {
    static const struct {
        const char *name;
        int threads;
    } kinds[] = {{"1 thread", 1},
                 {"2 threads", 2},
                 {"4 threads", 4},
                 {"16 threads", 16},
                 {"64 threads", 64}};
    static bench_side sides[] = {{.name = "ferry", .run = offload_ferry_task},
                                 {.name = "libuv", .run = offload_uv, BENCH_UV_VERSION},
                                 {.name = "Boost.Asio", .program = "peers-asio"},
                                 {.name = "plain C, batch", .run = offload_plain_batch}};
    enum { SIDES = sizeof sides / sizeof *sides };
    double cheapest = 0, dearest = 0;
    char text[120];
    bench_probe(&sides[2]);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        bench_case what = {.name = kinds[i].name,
                           .size = 1024,
                           .threads = kinds[i].threads,
                           .loops = 1,
                           .ms = bench_ms(),
                           .pinned = pinned};
        bench_measure(&what, sides, SIDES, bench_pieces);
        for (int s = 1; s < SIDES; s++)
            bench_compare(&what, "ferry", sides[s].name, "cost", 1, "ns a job");
        double cost = bench_median_of(&what, "ferry", "cost");
        if (kinds[i].threads == 4)
            cheapest = cost;
        else if (kinds[i].threads > 4 && !(cost <= dearest))
            dearest = cost;
    }
    snprintf(text, sizeof text, "scaling, 16 and 64 threads against 4, %s: cost of a job",
             pinned ? "one CPU" : "all CPUs");
    bench_target(text, dearest / cheapest, '<', 1.5, "times");
}

static void loops_cases(bool pinned) {
    static const struct {
        const char *name;
        int loops;
    } kinds[] = {{"1 loop", 1}, {"2 loops", 2}, {"4 loops", 4}};
    static bench_side sides[] = {{.name = "ferry", .run = offload_ferry_loops},
                                 {.name = "libuv", .run = offload_uv_loops, BENCH_UV_VERSION}};
    double one = 0, worst = 0;
    char text[120];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        bench_case what = {.name = kinds[i].name,
                           .size = 1024,
                           .threads = 4,
                           .loops = kinds[i].loops,
                           .ms = bench_ms(),
                           .pinned = pinned,
                           .no_check = true};
        bench_measure(&what, sides, 2, NULL);
        bench_compare(&what, "ferry", "libuv", "cost", 1, "ns a job");
        double cost = bench_median_of(&what, "ferry", "cost");
        if (kinds[i].loops == 1)
            one = cost;
        else if (!(cost <= worst))
            worst = cost;
    }
    snprintf(text, sizeof text, "scaling, 2 and 4 loops against 1, %s: cost of a job",
             pinned ? "one CPU" : "all CPUs");
    bench_target(text, worst / one, '<', 1.5, "times");
}

int main(int argc, char **argv) {
    bench_begin(argc, argv, "scaling", "cost of a job by threads and by loops", NULL);
    for (int pinned = 0; pinned < 2; pinned++) {
        threads_cases(pinned);
        loops_cases(pinned);
    }
    return bench_end();
}
