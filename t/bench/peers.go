// What the benchmarks do in Go: peers-go SUBJECT CASE SIZE THREADS LOOPS MS. It prints lines "name value".
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func piece(i uint64) uint64 { return (i*7 + 3) & 0xffff }

func cpu() time.Duration {
	var use syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

type span struct {
	start, end time.Time
	cpu        time.Duration
	calls      int
	over       bool
}

func open(ms int) *span {
	start := time.Now()
	return &span{start: start, end: start.Add(time.Duration(ms) * time.Millisecond), cpu: cpu()}
}

func (s *span) isOver(stride int) bool {
	if s.over {
		return true
	}
	if s.calls++; s.calls < stride {
		return false
	}
	s.calls = 0
	s.over = !time.Now().Before(s.end)
	return s.over
}

func (s *span) close(count uint64) {
	took := float64(time.Since(s.start).Nanoseconds())
	used := float64((cpu() - s.cpu).Nanoseconds())
	fmt.Printf("rate %g\ncost %g\ncpu %g\n", float64(count)/took*1e9, took/float64(count), used/float64(count))
}

func percentiles(ns []int64) {
	if len(ns) == 0 {
		return
	}
	sort.Slice(ns, func(a, b int) bool { return ns[a] < ns[b] })
	for _, p := range []struct {
		name string
		part float64
	}{{"p10", 0.1}, {"p25", 0.25}, {"p50", 0.5}, {"p75", 0.75}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}} {
		fmt.Printf("%s %g\n", p.name, float64(ns[int(p.part*float64(len(ns)-1))])/1e3)
	}
}

// ---- offload: workers that own their OS thread, as blocking calls do; the main goroutine is the loop

type job struct{ number, result uint64 }

func offload(size, threads, ms int) {
	jobs := make(chan *job, size)
	done := make(chan *job, size)
	var workers sync.WaitGroup
	for i := 0; i < threads; i++ {
		workers.Add(1)
		go func() {
			runtime.LockOSThread()
			defer workers.Done()
			for j := range jobs {
				j.result = piece(j.number)
				done <- j
			}
		}()
	}
	stride := 32
	if size < 32 {
		stride = 1
	}
	stage := func(ms int, last bool) uint64 {
		var next, count, sum uint64
		var latencies []int64
		var started time.Time
		timed := last && size == 1
		s := open(ms)
		running := 0
		submit := func(j *job) bool {
			if s.isOver(stride) {
				return false
			}
			j.number = next
			next++
			if timed {
				started = time.Now()
			}
			jobs <- j
			return true
		}
		for i := 0; i < size; i++ {
			if submit(&job{}) {
				running++
			}
		}
		for running > 0 {
			j := <-done
			count++
			sum += j.result
			if timed {
				latencies = append(latencies, time.Since(started).Nanoseconds())
			}
			if !submit(j) {
				running--
			}
		}
		if last {
			s.close(count)
			fmt.Printf("count %d\nsum %d\n", count, sum)
			percentiles(latencies)
		}
		return count
	}
	for done := uint64(0); done < 16*uint64(size); {
		done += stage(ms/5+1, false)
	}
	stage(ms, true)
	close(jobs)
	workers.Wait()
}

// ---- mixed: bursts of short jobs with some slow ones among them

func mixed(size, threads, ms int) {
	type entry struct {
		number, result            uint64
		slow                      bool
		submitted, started, ended time.Duration
	}
	jobs := make(chan *entry, size)
	var bursts sync.WaitGroup
	epoch := time.Now()
	for i := 0; i < threads; i++ {
		go func() {
			runtime.LockOSThread()
			for e := range jobs {
				e.started = time.Since(epoch)
				if e.slow {
					nap := syscall.Timespec{Nsec: 1000000}
					syscall.Nanosleep(&nap, nil)
				} else {
					for time.Since(epoch) < e.started+time.Microsecond {
					}
				}
				e.result = piece(e.number)
				e.ended = time.Since(epoch)
				bursts.Done()
			}
		}()
	}
	var count, sum uint64
	var waits, ideals []int64
	random := uint64(1)
	entries := make([]entry, size)
	free := make([]time.Duration, threads)
	for s := open(ms); !s.isOver(1); {
		random = random*6364136223846793005 + 1442695040888963407
		for i := range entries {
			entries[i].slow = false
		}
		for slow := random >> 33 % 4; slow > 0; slow-- {
			random = random*6364136223846793005 + 1442695040888963407
			entries[(random>>33)%uint64(size)].slow = true
		}
		bursts.Add(size)
		for i := range entries {
			e := &entries[i]
			e.number = count + uint64(i)
			e.submitted = time.Since(epoch)
			jobs <- e
		}
		bursts.Wait()
		for i := range free {
			free[i] = 0
		}
		for i := range entries {
			e := &entries[i]
			first := 0
			for t := range free {
				if free[t] < free[first] {
					first = t
				}
			}
			start := e.submitted
			if free[first] > start {
				start = free[first]
			}
			free[first] = start + e.ended - e.started
			if !e.slow {
				waits = append(waits, int64(e.started-e.submitted))
				ideals = append(ideals, int64(start-e.submitted))
			}
			sum += e.result
		}
		count += uint64(size)
	}
	percentiles(waits)
	at := func(ns []int64) float64 { return float64(ns[int(0.99*float64(len(ns)-1))]) / 1e3 }
	sort.Slice(ideals, func(a, b int) bool { return ideals[a] < ideals[b] })
	fmt.Printf("ideal %g\nover %g\ncount %d\nsum %d\n", at(ideals), at(waits)-at(ideals), count, sum)
}

// ---- tasks

func resident() float64 {
	var pages, rss int
	text, _ := os.ReadFile("/proc/self/statm")
	fmt.Sscan(string(text), &pages, &rss)
	return float64(rss * os.Getpagesize())
}

// Does batches, which count themselves, until the time is over; the first isn't in the figures.
func timed(ms int, count *uint64, what func(n int)) {
	what(1000)
	before := *count
	s := open(ms)
	for !s.isOver(1) {
		what(1000)
	}
	s.close(*count - before)
}

func tasks(which string, size, ms int) {
	var count, sum uint64
	switch which {
	case "spawn and await":
		timed(ms, &count, func(n int) {
			for i := 0; i < n; i++ {
				number := count
				var result uint64
				var ended sync.WaitGroup
				ended.Add(1)
				go func() {
					result = piece(number)
					ended.Done()
				}()
				ended.Wait()
				sum += result
				count++
			}
		})
	case "yield":
		var both sync.WaitGroup
		timed(ms, &count, func(n int) {
			var sums [2]uint64
			both.Add(2)
			for t := range sums {
				go func(t int, first uint64) {
					var mine uint64
					for i := 0; i < n/2; i++ {
						mine += piece(first + uint64(i))
						runtime.Gosched()
					}
					sums[t] = mine
					both.Done()
				}(t, count+uint64(t*n/2))
			}
			both.Wait()
			count += uint64(n)
			sum += sums[0] + sums[1]
		})
	case "ping-pong over a queue":
		there, back := make(chan uint64), make(chan uint64)
		go func() {
			for number := range there {
				back <- piece(number + 1)
			}
		}()
		timed(ms, &count, func(n int) {
			for i := 0; i < n; i++ {
				there <- count
				sum += piece(count) + <-back
				count += 2
			}
		})
	case "lock and unlock":
		var mutex sync.Mutex
		timed(ms, &count, func(n int) {
			for i := 0; i < n; i++ {
				mutex.Lock()
				sum += piece(count)
				count++
				mutex.Unlock()
			}
		})
	}
	fmt.Printf("count %d\nsum %d\n", count, sum)
}

// Each goroutine waits for its deadline (an hour away) or for the stop of all.
func parked(size int) {
	runtime.GC()
	before := resident()
	stop := make(chan struct{})
	var ready, ended sync.WaitGroup
	results := make([]uint64, size)
	ready.Add(size)
	ended.Add(size)
	start := time.Now()
	for i := 0; i < size; i++ {
		go func(i int) {
			deadline := time.NewTimer(time.Hour)
			ready.Done()
			select {
			case <-stop:
				results[i] = piece(uint64(i))
			case <-deadline.C:
			}
			deadline.Stop()
			ended.Done()
		}(i)
	}
	ready.Wait()
	spawned := time.Since(start)
	full := resident()
	start = time.Now()
	close(stop)
	ended.Wait()
	took := time.Since(start)
	var sum uint64
	for _, result := range results {
		sum += result
	}
	fmt.Printf("bytes %g\nresident %g\nspawn %g\njoin %g\n", (full-before)/float64(size), full, spawned.Seconds(), took.Seconds())
	fmt.Printf("count %d\nsum %d\n", size, sum)
}

// ---- deadlines: contexts with a time-out that doesn't fire, with others pending

func deadlines(size, ms int) {
	for i := 0; i < size; i++ {
		later := time.Duration(1800000+i*2654435761%size*1800000/size) * time.Millisecond
		_, cancel := context.WithTimeout(context.Background(), later)
		defer cancel()
	}
	var count, sum uint64
	timed(ms, &count, func(n int) {
		for i := 0; i < n; i++ {
			_, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			cancel()
			sum += piece(count)
			count++
		}
	})
	fmt.Printf("count %d\nsum %d\n", count, sum)
}

// ---- worlds: a channel of 1,024 places between a goroutine and one that owns its OS thread

func worlds(ms int) {
	type total struct{ count, sum uint64 }
	stage := func(ms int, last bool) {
		items := make(chan uint64, 1024)
		got := make(chan total)
		go func() {
			runtime.LockOSThread()
			var t total
			for number := range items {
				t.count++
				t.sum += piece(number)
			}
			got <- t
		}()
		s := open(ms)
		var next uint64
		for !s.isOver(32) {
			items <- next
			next++
		}
		close(items)
		t := <-got
		if last {
			s.close(t.count)
			fmt.Printf("count %d\nsum %d\n", t.count, t.sum)
		}
		if t.count != next {
			fmt.Fprintln(os.Stderr, "peers-go: items were lost")
			os.Exit(1)
		}
	}
	stage(ms/5+1, false)
	stage(ms, true)
}

func main() {
	if len(os.Args) < 7 {
		fmt.Println("Go " + runtime.Version()[2:])
		return
	}
	number := func(i int) int {
		n, err := strconv.Atoi(os.Args[i])
		if err != nil {
			fmt.Fprintln(os.Stderr, "peers-go:", err)
			os.Exit(2)
		}
		return n
	}
	size, threads, ms := number(3), number(4), number(6)
	switch os.Args[1] {
	case "offload":
		offload(size, threads, ms)
	case "tasks":
		if size > 1 {
			debug.SetGCPercent(-1)
			parked(size)
		} else {
			tasks(os.Args[2], size, ms)
		}
	case "deadlines":
		deadlines(size, ms)
	case "worlds":
		worlds(ms)
	case "mixed":
		mixed(size, threads, ms)
	default:
		fmt.Fprintln(os.Stderr, "peers-go: no such subject:", os.Args[1])
		os.Exit(2)
	}
}
