// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs jobs side by side within limits of number and memory, and says how far it is.
//!
//! Long jobs go first, so that the last one does not run alone for long. Knows nothing of guests.

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a job needs, and about how long it takes (in any unit).
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub memory: u64,
    pub weight: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub jobs: usize,
    /// In the unit of [`Need::memory`].
    pub memory: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    pub done: usize,
    pub total: usize,
    /// Of the whole weight, what is done.
    pub share: f64,
    pub elapsed: Duration,
}

impl State {
    /// About how much longer it takes; nothing before there is something to tell it from.
    pub fn remaining(&self) -> Option<Duration> {
        if self.done == 0 || self.share <= 0.0 {
            return None;
        }
        let whole = self.elapsed.as_secs_f64() / self.share;
        Some(Duration::from_secs_f64(
            (whole - self.elapsed.as_secs_f64()).max(0.0),
        ))
    }
}

struct Queue {
    waiting: Vec<usize>,
    running: usize,
    memory: u64,
    done: usize,
    weight: f64,
}

/// Runs `work` for each of `needs`; the results are in their order. `tell` hears of each end.
pub fn run<T: Send>(
    needs: &[Need],
    limits: Limits,
    work: impl Fn(usize) -> T + Sync,
    tell: impl Fn(State) + Sync,
) -> Vec<T> {
    let begun = Instant::now();
    let total: f64 = needs.iter().map(|n| n.weight).sum();
    let mut waiting: Vec<_> = (0..needs.len()).collect();
    // The sort is stable: equals stay in the order they came in.
    waiting.sort_by(|a, b| needs[*b].weight.total_cmp(&needs[*a].weight));
    let queue = Mutex::new(Queue {
        waiting,
        running: 0,
        memory: 0,
        done: 0,
        weight: 0.0,
    });
    let ended = Condvar::new();
    let results: Vec<_> = needs.iter().map(|_| Mutex::new(None)).collect();
    let next = || {
        let mut queue = queue.lock().expect("no holder panics");
        loop {
            if queue.waiting.is_empty() {
                return None;
            }
            let fits = |index: &usize| queue.memory + needs[*index].memory <= limits.memory;
            let at = match queue.waiting.iter().position(fits) {
                // One alone has to run, however large.
                None if queue.running == 0 => Some(0),
                at => at,
            };
            if let Some(at) = at {
                let index = queue.waiting.remove(at);
                queue.running += 1;
                queue.memory += needs[index].memory;
                return Some(index);
            }
            queue = ended.wait(queue).expect("no holder panics");
        }
    };
    thread::scope(|scope| {
        for _ in 0..limits.jobs.max(1).min(needs.len()) {
            scope.spawn(|| {
                while let Some(index) = next() {
                    let result = work(index);
                    *results[index].lock().expect("no holder panics") = Some(result);
                    let mut queue = queue.lock().expect("no holder panics");
                    queue.running -= 1;
                    queue.memory -= needs[index].memory;
                    queue.done += 1;
                    queue.weight += needs[index].weight;
                    tell(State {
                        done: queue.done,
                        total: needs.len(),
                        share: if total > 0.0 {
                            queue.weight / total
                        } else {
                            0.0
                        },
                        elapsed: begun.elapsed(),
                    });
                    ended.notify_all();
                }
            });
        }
    });
    results
        .into_iter()
        .map(|slot| {
            slot.into_inner()
                .expect("no holder panics")
                .expect("every job was run")
        })
        .collect()
}

/// MiB that guests may use here, by what the kernel says is available.
pub fn available() -> u64 {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_available(&text))
        // Not to be known is no reason not to run one.
        .map_or(0, |mib| mib.saturating_sub(RESERVE))
}

/// Left for everything else.
const RESERVE: u64 = 512;

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    fn need(memory: u64, weight: f64) -> Need {
        Need { memory, weight }
    }

    #[test]
    fn limits_hold_and_every_job_is_run() {
        let needs: Vec<_> = (0..40).map(|n| need(100 + n % 3 * 100, n as f64)).collect();
        let limits = Limits {
            jobs: 4,
            memory: 500,
        };
        let (memory, most, jobs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        let results = run(
            &needs,
            limits,
            |index| {
                let now =
                    memory.fetch_add(needs[index].memory, Ordering::SeqCst) + needs[index].memory;
                most.fetch_max(now, Ordering::SeqCst);
                assert!(jobs.fetch_add(1, Ordering::SeqCst) < 4);
                thread::sleep(Duration::from_millis(2));
                jobs.fetch_sub(1, Ordering::SeqCst);
                memory.fetch_sub(needs[index].memory, Ordering::SeqCst);
                index
            },
            |_| {},
        );
        assert_eq!(results, (0..40).collect::<Vec<_>>());
        let most = most.load(Ordering::SeqCst);
        assert!(most <= 500, "{most} MiB at once");
        assert!(most > 300, "nothing ran side by side: {most}");
    }

    #[test]
    fn one_that_is_too_large_runs_alone() {
        let running = AtomicUsize::new(0);
        let limits = Limits {
            jobs: 3,
            memory: 10,
        };
        run(
            &[need(99, 1.0), need(5, 2.0), need(99, 3.0)],
            limits,
            |index| {
                let beside = running.fetch_add(1, Ordering::SeqCst);
                assert!(index == 1 || beside == 0);
                thread::sleep(Duration::from_millis(5));
                running.fetch_sub(1, Ordering::SeqCst);
            },
            |_| {},
        );
    }

    #[test]
    fn long_ones_first_and_the_rest_is_estimated() {
        let order = Mutex::new(Vec::new());
        let states = Mutex::new(Vec::new());
        let limits = Limits { jobs: 1, memory: 9 };
        run(
            &[need(1, 1.0), need(1, 8.0), need(1, 1.0)],
            limits,
            |index| order.lock().unwrap().push(index),
            |state| states.lock().unwrap().push(state),
        );
        assert_eq!(order.into_inner().unwrap(), [1, 0, 2]);
        let states = states.into_inner().unwrap();
        assert_eq!((states[0].done, states[0].total), (1, 3));
        assert!((states[0].share - 0.8).abs() < 1e-9);
        let state = State {
            elapsed: Duration::from_secs(80),
            ..states[0]
        };
        assert_eq!(state.remaining().unwrap().as_secs_f64().round(), 20.0);
        assert_eq!(State { done: 0, ..state }.remaining(), None);
    }

    #[test]
    fn what_is_available_is_read() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(parse_available(text), Some(20_000));
        assert_eq!(parse_available("MemTotal: 1 kB\n"), None);
    }
}
