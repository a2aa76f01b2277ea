// What the benchmarks do with Tokio: peers-tokio SUBJECT CASE SIZE THREADS LOOPS MS. It prints lines
// "name value". A current-thread runtime is the loop; its tasks await spawn_blocking.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

fn piece(i: u64) -> u64 {
    (i * 7 + 3) & 0xffff
}

fn cpu() -> f64 {
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    (u.ru_utime.tv_sec + u.ru_stime.tv_sec) as f64 * 1e9
        + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) as f64 * 1e3
}

struct Offload {
    end: Instant,
    stride: u32,
    calls: u32,
    over: bool,
    timed: bool,
    next: u64,
    count: u64,
    sum: u64,
    latencies: Vec<u64>,
}

impl Offload {
    fn take(&mut self) -> Option<u64> {
        self.calls += 1;
        if !self.over && self.calls >= self.stride {
            self.calls = 0;
            self.over = Instant::now() >= self.end;
        }
        if self.over {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

async fn worker(o: Rc<RefCell<Offload>>, timed: bool) {
    loop {
        let taken = o.borrow_mut().take();
        let number = match taken {
            Some(number) => number,
            None => return,
        };
        let started = if timed { Some(Instant::now()) } else { None };
        let result = tokio::task::spawn_blocking(move || piece(number)).await.unwrap();
        let mut o = o.borrow_mut();
        if let Some(started) = started {
            o.latencies.push(started.elapsed().as_nanos() as u64);
        }
        o.count += 1;
        o.sum += result;
    }
}

fn offload(size: usize, threads: usize, ms: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(threads)
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let mut warmed = 0;
    loop {
        let last = warmed >= 16 * size as u64;
        let ms = if last { ms } else { ms / 5 + 1 };
        let used = cpu();
        let start = Instant::now();
        let o = Rc::new(RefCell::new(Offload {
            end: start + Duration::from_millis(ms),
            stride: if size < 32 { 1 } else { 32 },
            calls: 0,
            over: false,
            timed: last && size == 1,
            next: 0,
            count: 0,
            sum: 0,
            latencies: Vec::new(),
        }));
        let timed = o.borrow().timed;
        local.block_on(&runtime, async {
            let mut workers = Vec::new();
            for _ in 0..size {
                workers.push(tokio::task::spawn_local(worker(o.clone(), timed)));
            }
            for w in workers {
                w.await.unwrap();
            }
        });
        if !last {
            warmed += o.borrow().count;
            continue;
        }
        let took = start.elapsed().as_nanos() as f64;
        let used = cpu() - used;
        let mut o = o.borrow_mut();
        let n = o.count as f64;
        println!("rate {}\ncost {}\ncpu {}", n / took * 1e9, took / n, used / n);
        println!("count {}\nsum {}", o.count, o.sum);
        o.latencies.sort();
        if !o.latencies.is_empty() {
            for &(name, part) in &[
                ("p10", 0.1), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p90", 0.9),
                ("p99", 0.99), ("p99.9", 0.999),
            ] {
                let at = (part * (o.latencies.len() - 1) as f64) as usize;
                println!("{} {}", name, o.latencies[at] as f64 / 1e3);
            }
        }
        break;
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.len() < 7 {
        println!("Tokio {}", env!("TOKIO_VERSION"));
    } else if args[1] == "offload" {
        offload(args[3].parse().unwrap(), args[4].parse().unwrap(), args[6].parse().unwrap());
    } else {
        eprintln!("peers-tokio: no such subject: {}", args[1]);
        std::process::exit(2);
    }
}
