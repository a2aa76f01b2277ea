"""What the benchmarks do with Python's asyncio: peers.py SUBJECT CASE SIZE THREADS LOOPS MS asyncio|uvloop.

It prints lines "name value".
"""
import asyncio
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def piece(i):
    return (i * 7 + 3) & 0xFFFF


def cpu():
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


class Offload:
    def __init__(self, size, pool):
        self.size = size
        self.pool = pool

    async def worker(self):
        loop = asyncio.get_running_loop()
        over = False
        while not over:
            number = self.next
            self.next += 1
            started = time.monotonic_ns()
            result = await loop.run_in_executor(self.pool, piece, number)
            if self.size == 1:
                self.latencies.append(time.monotonic_ns() - started)
            self.count += 1
            self.sum += result
            over = time.monotonic() >= self.end

    async def stage(self, ms):
        self.next = self.count = self.sum = 0
        self.latencies = []
        self.cpu = cpu()
        self.start = time.monotonic()
        self.end = self.start + ms / 1000
        await asyncio.gather(*(self.worker() for _ in range(self.size)))


async def offload(size, threads, ms):
    with ThreadPoolExecutor(threads) as pool:
        o = Offload(size, pool)
        warmed = 0
        while warmed < 16 * size:
            await o.stage(ms / 5 + 1)
            warmed += o.count
        await o.stage(ms)
        took, used = time.monotonic() - o.start, cpu() - o.cpu
    print("rate", o.count / took)
    print("cost", took / o.count * 1e9)
    print("cpu", used / o.count * 1e9)
    print("count", o.count)
    print("sum", o.sum)
    ns = sorted(o.latencies)
    for name, part in (("p10", 0.1), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99),
                       ("p99.9", 0.999)):
        if ns:
            print(name, ns[int(part * (len(ns) - 1))] / 1e3)


def main():
    which = sys.argv[-1]
    if which == "uvloop":
        import uvloop
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if sys.argv[1] == "version":
        print("Python " + sys.version.split()[0] + (f", uvloop {uvloop.__version__}" if which == "uvloop" else ""))
    elif sys.argv[1] == "offload":
        size, threads, ms = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[6])
        asyncio.run(offload(size, threads, ms))
    else:
        sys.exit("peers.py: no such subject: " + sys.argv[1])


main()
