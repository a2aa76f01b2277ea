// What the benchmarks do with Boost.Asio: peers-asio SUBJECT CASE SIZE THREADS LOOPS MS. It prints
// lines "name value". A thread_pool runs the jobs, an io_context on the main thread gets their
// results.
#include <algorithm>
#include <boost/asio.hpp>
#include <boost/version.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/resource.h>
#include <vector>

namespace asio = boost::asio;
using steady = std::chrono::steady_clock;

static std::int64_t piece(std::uint64_t i) {
    return static_cast<std::int64_t>((i * 7 + 3) & 0xffff);
}

static double cpu() {
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    return static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e9 +
           static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e3;
}

struct offload {
    asio::io_context &loop;
    asio::thread_pool &pool;
    long size;
    bool timed;
    steady::time_point start, end, started;
    int stride, calls = 0;
    bool over = false;
    std::uint64_t next = 0, count = 0, sum = 0;
    std::vector<std::uint64_t> latencies;

    bool take(std::uint64_t &number) {
        if (!over && ++calls >= stride) {
            calls = 0;
            over = steady::now() >= end;
        }
        if (over)
            return false;
        number = next++;
        if (timed)
            started = steady::now();
        return true;
    }

    void submit() {
        std::uint64_t number;
        if (!take(number))
            return;
        asio::post(pool, [this, number, work = asio::make_work_guard(loop)] {
            std::int64_t result = piece(number);
            asio::post(loop, [this, result] {
                count++;
                sum += static_cast<std::uint64_t>(result);
                if (timed)
                    latencies.push_back(static_cast<std::uint64_t>(
                        std::chrono::nanoseconds(steady::now() - started).count()));
                submit();
            });
        });
    }

    void stage(int ms) {
        start = steady::now();
        end = start + std::chrono::milliseconds(ms);
        for (long i = 0; i < size; i++)
            submit();
        loop.run();
        loop.restart();
    }
};

int main(int argc, char **argv) {
    if (argc < 7) {
        std::printf("Boost %d.%d\n", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000);
        return 0;
    }
    if (std::strcmp(argv[1], "offload") != 0 && std::strcmp(argv[1], "scaling") != 0) {
        std::fprintf(stderr, "peers-asio: no such subject: %s\n", argv[1]);
        return 2;
    }
    long size = std::atol(argv[3]);
    int threads = std::atoi(argv[4]), ms = std::atoi(argv[6]), stride = size < 32 ? 1 : 32;
    asio::io_context loop(1);
    asio::thread_pool pool(static_cast<std::size_t>(threads));
    for (std::uint64_t done = 0; done < 16 * static_cast<std::uint64_t>(size);) {
        offload warm{loop, pool, size, false, {}, {}, {}, stride};
        warm.stage(ms / 5 + 1);
        done += warm.count;
    }
    offload o{loop, pool, size, size == 1, {}, {}, {}, stride};
    double used = cpu();
    o.stage(ms);
    used = cpu() - used;
    double n = static_cast<double>(o.count);
    double took = static_cast<double>(std::chrono::nanoseconds(steady::now() - o.start).count());
    std::printf("rate %.17g\ncost %.17g\ncpu %.17g\n", n / took * 1e9, took / n, used / n);
    std::printf("count %llu\nsum %llu\n", static_cast<unsigned long long>(o.count),
                static_cast<unsigned long long>(o.sum));
    if (!o.latencies.empty()) {
        std::sort(o.latencies.begin(), o.latencies.end());
        const struct {
            const char *name;
            double part;
        } wanted[] = {{"p10", 0.1}, {"p25", 0.25}, {"p50", 0.5},    {"p75", 0.75},
                      {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
        for (const auto &p : wanted) {
            double last = static_cast<double>(o.latencies.size() - 1);
            std::printf("%s %g\n", p.name,
                        static_cast<double>(o.latencies[static_cast<std::size_t>(p.part * last)]) / 1e3);
        }
    }
    pool.join();
    return 0;
}
