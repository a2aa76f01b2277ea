"""Writes doc/performance.md and its plots from the JSON files of a run of the benchmarks.

report.py --results=FOLDER --doc=FOLDER --cc=COMPILER --libevent=VERSION

Standard library only. What each change bought is written by hand, in performance-notes.md beside the
result, and taken in as it is. The machine is described without its name or any path.
"""
import json
import math
import os
import platform
import re
import subprocess
import sys
from datetime import date
from html import escape

SUBJECTS = ["offload", "mixed", "scaling", "tasks", "deadlines", "worlds", "index"]

# ---- Figures ----------------------------------------------------------------------------------------


def read_results(folder):
    results = {}
    for subject in SUBJECTS:
        path = os.path.join(folder, subject + ".json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                results[subject] = json.load(file)
    return results


def figure(result, side, value, cpus, **case):
    """The median of one value of one side, or None."""
    for f in result["figures"]:
        if f["side"] == side and f["value"] == value and f["cpus"] == cpus:
            if all(f[key] == wanted for key, wanted in case.items()):
                return f["median"]
    return None


def sides_of(result):
    return [side["name"] for side in result["sides"]]


def number(value):
    """Three digits, and thousands separated."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 or size == 0 else f"{value:.3f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def two(every, one):
    """A figure with all CPUs, and the one of one CPU in brackets."""
    return f"{number(every)} ({number(one)})"


# ---- Plots: plain SVG, with a background of its own so that it can be read on any page ------------------

# The second seven sides have the same colours, with broken lines and other marks.
COLORS = ["#d1242f", "#0969da", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a"]
DARK = ["#ff7b72", "#79c0ff", "#56d364", "#e3b341", "#d2a8ff", "#ff9bce", "#b1bac4"]
MARKS = ["circle", "square", "diamond", "triangle"]


class Plot:
    """Panels beside each other that share their y axis, and a legend. Both axes are logarithmic
    unless x is a list of names."""

    width, height, left, top, gap, legend = 330, 300, 78, 46, 26, 190

    def __init__(self, title, x_label, y_label, x_ticks, y_range):
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.x_ticks = x_ticks  # (value, text)
        self.low, self.high = math.log10(y_range[0]), math.log10(y_range[1])
        self.panels = []  # (name, {side: [(x, y)]})

    def x(self, value):
        first, last = math.log(self.x_ticks[0][0]), math.log(self.x_ticks[-1][0])
        return 12 + (math.log(value) - first) / (last - first) * (self.width - 24)

    def y(self, value):
        return self.height - (math.log10(value) - self.low) / (self.high - self.low) * self.height

    def mark(self, kind, x, y, name):
        shapes = {
            "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6"',
            "square": f'<rect x="{x - 3.3:.1f}" y="{y - 3.3:.1f}" width="6.6" height="6.6"',
            "diamond": f'<path d="M{x:.1f} {y - 4.6:.1f}l4.6 4.6l-4.6 4.6l-4.6 -4.6z"',
            "triangle": f'<path d="M{x:.1f} {y - 4.4:.1f}l4.4 7.8h-8.8z"',
        }
        return f'{shapes[kind]} class="{name} mark"/>'

    def svg(self):
        sides = []
        for _, lines in self.panels:
            sides += [side for side in lines if side not in sides]
        total = self.left + len(self.panels) * (self.width + self.gap) + self.legend
        bottom = self.top + self.height
        css = ["text{font:12px sans-serif;fill:#24292f}.back{fill:#fff}.title{font-weight:bold;font-size:14px}"
               ".grid{stroke:#d0d7de;stroke-width:1}.frame{fill:none;stroke:#8c959f}"
               "polyline{fill:none;stroke-width:1.8}.bold{stroke-width:3.2}"]
        dark = ["text{fill:#e6edf3}.back{fill:#0d1117}.grid{stroke:#30363d}.frame{stroke:#8b949e}"]
        for i in range(len(sides)):
            broken = ";stroke-dasharray:6 4" if i >= len(COLORS) else ""
            for rules, colors in ((css, COLORS), (dark, DARK)):
                color = colors[i % len(colors)]
                rules.append(f".c{i}{{stroke:{color}{broken}}}.c{i}.mark{{fill:{color};stroke-dasharray:none}}")
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {bottom + 56}" '
               f'width="{total}" height="{bottom + 56}" role="img" aria-label="{escape(self.title)}">',
               "<style>" + "".join(css) + "@media(prefers-color-scheme:dark){" + "".join(dark) + "}</style>",
               f'<rect class="back" width="{total}" height="{bottom + 56}"/>',
               f'<text class="title" x="{self.left}" y="18">{escape(self.title)}</text>',
               f'<text transform="translate(16 {self.top + self.height / 2}) rotate(-90)" '
               f'text-anchor="middle">{escape(self.y_label)}</text>']
        for p, (name, lines) in enumerate(self.panels):
            at = self.left + p * (self.width + self.gap)
            out.append(f'<g transform="translate({at} {self.top})">')
            out.append(f'<text x="{self.width / 2}" y="-8" text-anchor="middle">{escape(name)}</text>')
            for power in range(math.ceil(self.low), math.floor(self.high) + 1):
                y = self.y(10 ** power)
                out.append(f'<line class="grid" x1="0" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}"/>')
                if p == 0:
                    out.append(f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{escape(power_of_ten(power))}</text>')
            for value, text in self.x_ticks:
                x = self.x(value)
                out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{self.height}"/>')
                out.append(f'<text x="{x:.1f}" y="{self.height + 18}" text-anchor="middle">{escape(text)}</text>')
            out.append(f'<rect class="frame" width="{self.width}" height="{self.height}"/>')
            out.append(f'<text x="{self.width / 2}" y="{self.height + 40}" text-anchor="middle">{escape(self.x_label)}</text>')
            for side, points in reversed(list(lines.items())):
                i = sides.index(side)
                bold = " bold" if side.startswith("ferry") else ""
                places = [(self.x(x), self.y(y)) for x, y in points]
                out.append(f'<polyline class="c{i}{bold}" points="'
                           + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
                out += [self.mark(MARKS[(i + 2 * (i // len(COLORS))) % 4], x, y, f"c{i}") for x, y in places]
            out.append("</g>")
        at = self.left + len(self.panels) * (self.width + self.gap)
        for i, side in enumerate(sides):
            y = self.top + 10 + i * 20
            bold = " bold" if side.startswith("ferry") else ""
            out.append(f'<polyline class="c{i}{bold}" points="{at},{y} {at + 28},{y}"/>')
            out.append(self.mark(MARKS[(i + 2 * (i // len(COLORS))) % 4], at + 14, y, f"c{i}"))
            out.append(f'<text x="{at + 36}" y="{y + 4}">{escape(side)}</text>')
        return "\n".join(out + ["</svg>", ""])


def power_of_ten(power):
    if -3 <= power <= 5:
        return f"{10.0 ** power:,g}" if power < 0 else f"{10 ** power:,}"
    return f"{10 ** (power % 3)} {({2: 'M', 3: 'G'})[power // 3]}" if power < 12 else f"1e{power}"


def whole_powers(values):
    return 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))


def draw(doc, name, title, x_label, y_label, x_ticks, panels):
    """Panels: (name, {side: [(x, y)]}); points without a figure are left out, and
    lines of a single point."""
    kept, values = [], []
    for panel, lines in panels:
        lines = {side: [(x, y) for x, y in points if y and math.isfinite(y) and y > 0]
                 for side, points in lines.items()}
        lines = {side: points for side, points in lines.items() if len(points) > 1}
        if lines:
            kept.append((panel, lines))
            values += [y for points in lines.values() for _, y in points]
    if not values:
        return ""
    low, high = whole_powers(values)
    plot = Plot(title, x_label, y_label, x_ticks, (low, high if high > low else low * 10))
    plot.panels = kept
    os.makedirs(os.path.join(doc, "performance"), exist_ok=True)
    with open(os.path.join(doc, "performance", name + ".svg"), "w", encoding="utf-8") as file:
        file.write(plot.svg())
    return f"![{title}](performance/{name}.svg)\n\n"


BOTH = [("all", "all CPUs"), ("one", "pinned to one CPU")]

# ---- Parts of the report ----------------------------------------------------------------------------------


def targets_part(results):
    """One row a target; the two placements beside each other."""
    rows = {}
    for result in results.values():
        for t in result["targets"]:
            place = 1 if "one CPU" in t["text"] else 0
            text = re.sub(r",? (all CPUs|one CPU)", "", t["text"])
            wanted = ("at most " if t["at"] == "most" else "at least ") + f"{t['bound']:g} {t['unit']}"
            row = rows.setdefault((text, wanted), ["", ""])
            mark = {"met": "met", "not met": "**not met**"}.get(t["verdict"], "not measured")
            row[place] = f"{number(t['figure'])}, {mark}"
    return "## Targets\n\n" + table(["", "wanted", "all CPUs", "one CPU"],
                                    [[text, wanted, *row] for (text, wanted), row in rows.items()]) + "\n"


def offload_part(result, doc):
    sizes = sorted({f["size"] for f in result["figures"]})
    sides = sides_of(result)
    out = ("## Offloading\n\nNo-op jobs from a loop to 4 threads and back, with so many in flight. *ferry task* is "
           "so many tasks that await one job after the other, *ferry spawn* a new task for every job, *ferry "
           "callback* a libevent program with a callback for every job; *two threads, futex* is the least that a "
           "round trip between sleeping threads takes. In brackets: pinned to one CPU.\n\n")
    ticks = [(size, f"{size:,}") for size in sizes]

    def points(value, scale, cpus):
        return {side: [(size, (figure(result, side, value, cpus, size=size) or 0) * scale) for size in sizes]
                for side in sides}
    out += draw(doc, "throughput", "Jobs per second by jobs in flight", "jobs in flight", "jobs/s", ticks,
                [(name, points("rate", 1, cpus)) for cpus, name in BOTH])
    for value, scale, title in (("rate", 1e-6, "Million jobs/s"), ("cpu", 1e-3, "CPU time of a job, us")):
        out += title + ":\n\n" + table(
            ["in flight"] + [f"{size:,}" for size in sizes],
            [[side] + [two(*[(lambda v: v * scale if v else None)(figure(result, side, value, cpus, size=size))
                             for cpus, _ in BOTH]) for size in sizes] for side in sides]) + "\n"
    parts = [("p10", 10), ("p25", 25), ("p50", 50), ("p75", 75), ("p90", 90), ("p99", 99), ("p99.9", 99.9)]
    # The further right, the fewer are slower: 1 in 1/(1-p).
    out += draw(doc, "latency", "Round trip of one job alone in flight", "percentile", "us",
                [(1 / (1 - p / 100), name) for name, p in parts if name != "p25"],
                [(name, {side: [(1 / (1 - p / 100), figure(result, side, value, cpus, size=1)) for value, p in parts]
                         for side in sides}) for cpus, name in BOTH])
    out += "Round trip alone in flight, us:\n\n" + table(
        ["", "p50", "p90", "p99", "p99.9"],
        [[side] + [two(*[figure(result, side, value, cpus, size=1) for cpus, _ in BOTH])
                   for value in ("p50", "p90", "p99", "p99.9")] for side in sides]) + "\n"
    limits = [line for line in result["lines"] if line["unit"].endswith("the limit")]
    if limits:
        out += ("Where threads sleep, the limit for a ratio to libuv's p50 is that of *two threads, futex*: "
                + " and ".join(f"{number(line['ratio'])} {'pinned' if line['cpus'] == 'one' else 'with all CPUs'}"
                               for line in limits) + ".\n\n")
    return out


def lines_part(title, text, result, skip=()):
    """Ferry against its peers, as the program printed it; both placements in one row."""
    rows = {}
    for line in result["lines"]:
        if line["case"] in skip:
            continue
        key = (line["case"], line["ferry"], line["peer"], line["unit"])
        rows.setdefault(key, {})[line["cpus"]] = line
    body = []
    for (case, ferry, peer, unit), places in rows.items():
        def get(name):
            return two(*[(places.get(cpus) or {}).get(name) for cpus, _ in BOTH])
        body.append([case, get("ferry_median"), peer or "", get("peer_median") if peer else "",
                     get("ratio") if peer else "", unit])
    return f"## {title}\n\n{text}\n\n" + table(["", "Ferry", "peer", "its figure", "ratio", "unit"], body) + "\n"


def scaling_part(result, doc):
    out = ("## Threads and loops\n\n1,024 jobs in flight: what a job costs by the number of threads, and by the "
           "number of loops that share one executor of 4 threads.\n\n")
    cases = {}
    for f in result["figures"]:
        kind = "loops" if "loop" in f["case"] else "threads"
        cases.setdefault(kind, set()).add(f[kind])
    for kind in ("threads", "loops"):
        amounts = sorted(cases.get(kind, []))
        if not amounts:
            continue
        sides = [side for side in sides_of(result)
                 if any(f["side"] == side and (kind[:-1] in f["case"]) for f in result["figures"])]
        names = {n: f"{n} {kind if n > 1 else kind[:-1]}" for n in amounts}

        def cost(side, n, cpus):
            return figure(result, side, "cost", cpus, case=names[n])
        if kind == "threads":
            out += draw(doc, "threads", "Cost of a job by threads of the executor", "threads", "ns a job",
                        [(n, str(n)) for n in amounts],
                        [(name, {side: [(n, cost(side, n, cpus)) for n in amounts] for side in sides})
                         for cpus, name in BOTH])
        out += f"Nanoseconds a job, by {kind}:\n\n" + table(
            [""] + [str(n) for n in amounts],
            [[side] + [two(*[cost(side, n, cpus) for cpus, _ in BOTH]) for n in amounts] for side in sides]) + "\n"
    return out


def tasks_part(result, doc):
    crowds = sorted({f["size"] for f in result["figures"] if f["size"] > 1})
    names = [line["case"] for line in result["lines"] if "parked" in line["case"]]
    out = lines_part("Tasks", "What it costs to spawn a task and await it, to yield (of two tasks), to hand an item "
                     "to another task over a queue of one place, and to lock and unlock a free mutex.", result, names)
    sides = [side for side in sides_of(result) if figure(result, side, "resident", "all", size=crowds[-1])]
    out += draw(doc, "memory", "Memory of the process by parked tasks, each with a deadline", "tasks parked", "MiB",
                [(n, f"{n:,}") for n in crowds],
                [("all CPUs", {side: [(n, (figure(result, side, "resident", "all", size=n) or 0) / 2 ** 20)
                                      for n in crowds] for side in sides})])
    rows = []
    for n in crowds:
        for side in sides:
            got = [figure(result, side, value, "all", size=n) for value in ("bytes", "resident", "spawn", "join")]
            if got[0] is None:
                continue
            rows.append([f"{n:,}", side, number(got[0]), number(got[1] / 2 ** 20), number(got[2] * 1e3),
                         number(got[3] * 1e3)])
    out += "Parked tasks, each with a deadline:\n\n" + table(
        ["tasks", "", "bytes each", "MiB, process", "ms to start all", "ms to cancel and join all"], rows) + "\n"
    return out


def machine_part(results, cc, libevent):
    model = "unknown"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = re.search(r"model name\s*:\s*(.*)", file.read()).group(1)
    except (OSError, AttributeError):
        model = platform.machine()
    words = [word for word in cc.split() if "ccache" not in word]
    flags = " ".join(word for word in words if re.match(r"-[Og]", word))
    program = next((word for word in words if not word.startswith("-")), "cc")
    try:
        compiler = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    except OSError:
        compiler = program
    release = re.match(r"[\d.]*", platform.release()).group(0).rstrip(".")
    rows = [["CPU", f"{model}, {len(os.sched_getaffinity(0))} CPUs"],
            ["kernel", f"{platform.system()} {release}"],
            ["compiler", f"{compiler} {flags}"],
            ["libevent", libevent]]
    versions = {}
    for result in results.values():
        for side in result["sides"]:
            if side["version"] and side["name"] != "libevent":
                versions[side["name"]] = side["version"]
    rows += sorted([name, version] for name, version in versions.items())
    out = "## The machine and the peers\n\n" + table(["", ""], rows) + "\n"
    skipped = {}
    for result in results.values():
        for skip in result["skipped"]:
            skipped[skip["name"]] = skip["why"]
    for name, why in sorted(skipped.items()):
        out += f"Not measured: {name}; {why}.\n\n"
    return out


def main():
    given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
    doc = given["doc"]
    results = read_results(given["results"])
    if not results:
        sys.exit("report.py: there are no results: run make bench first")
    failed = [subject for subject, result in results.items() if result["failed"]]
    if failed:
        sys.exit("report.py: checks failed in " + ", ".join(failed) + ": nothing is written")
    any_result = next(iter(results.values()))
    out = ("# Performance\n\n"
           f"Made by `make bench-report` on {date.today().isoformat()}; {any_result['rounds']} rounds"
           + (", the quick choice of cases" if any_result["quick"] else "") + ".\n\n"
           "Ferry and its peers took turns in the same run on the same machine, each time in a process of its own, "
           "and every figure comes from a run whose work was checked (t/bench/README.md). Figures are medians; a "
           "ratio is the median of the rounds' ratios, Ferry's figure divided by its peer's. Handles, awaits, "
           "deadlines, cancellation and metrics are on, as users have them. Figures with all CPUs depend on where "
           "the kernel places threads, and vary; those pinned to one CPU repeat.\n\n")
    out += targets_part(results)
    if "offload" in results:
        out += offload_part(results["offload"], doc)
    if "mixed" in results:
        out += lines_part("Short jobs among slow ones", "Bursts of 64 jobs to 4 threads, of which up to three block for "
                          "a millisecond and the others take a microsecond: what the short ones wait in the queue. The "
                          "ideal schedule is computed from the same run, without any cost of its own.",
                          results["mixed"])
    if "scaling" in results:
        out += scaling_part(results["scaling"], doc)
    if "tasks" in results:
        out += tasks_part(results["tasks"], doc)
    if "deadlines" in results:
        out += lines_part("Deadlines", "A scope with a time-out that doesn't fire, with 100,000 other time-outs "
                          "pending; for peers, a timer that is started and stopped (Go: a context).",
                          results["deadlines"])
    if "worlds" in results:
        out += lines_part("Both worlds", "A bounded queue of 1,024 places between a task and a thread; the peers' are "
                          "between two threads (GAsyncQueue has no bound). A mutex and a semaphore of 4 tasks and 4 "
                          "threads; the peers' are of 8 threads. Ferry hands a lock from owner to owner, first come, "
                          "first served; the peers' locks are taken by whoever runs.", results["worlds"])
    if "index" in results:
        out += lines_part("ferry-index", "Wall time against what a shell has for the same.", results["index"])
    notes = os.path.join(doc, "performance-notes.md")
    if os.path.exists(notes):
        with open(notes, encoding="utf-8") as file:
            out += file.read().rstrip() + "\n\n"
    out += machine_part(results, given.get("cc", "cc"), given.get("libevent", "unknown"))
    with open(os.path.join(doc, "performance.md"), "w", encoding="utf-8") as file:
        file.write(out.rstrip() + "\n")


main()
