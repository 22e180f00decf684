// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs jobs side by side within limits of number and memory, and says how far it is. No crate
//! that we found bounds the sum of what its jobs hold.
//!
//! Long jobs go first, so that the last one does not run alone for long. Knows nothing of guests.

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a job takes: memory (in the unit of the limit) and about how long (in any unit).
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub memory: u64,
    pub weight: f64,
}

/// How far a run is: how many jobs are done, and about how much longer the rest takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    pub done: usize,
    pub remaining: Duration,
}

/// Runs `work` for each of `loads`, at most `jobs` at once; the results are in their order. `tell`
/// hears of each end.
pub fn run_jobs<T: Send>(
    loads: &[Load],
    jobs: usize,
    memory: u64,
    work: impl Fn(usize) -> T + Sync,
    tell: impl Fn(State) + Sync,
) -> Vec<T> {
    #[derive(Default)]
    struct Queue {
        waiting: Vec<usize>,
        running: usize,
        memory: u64,
        done: usize,
        weight: f64,
    }
    const SOUND: &str = "no holder panics";
    let begun = Instant::now();
    let total: f64 = loads.iter().map(|n| n.weight).sum();
    let mut waiting: Vec<_> = (0..loads.len()).collect();
    // The sort is stable: equals stay in the order they came in.
    waiting.sort_by(|a, b| loads[*b].weight.total_cmp(&loads[*a].weight));
    let queue = Mutex::new(Queue {
        waiting,
        ..Queue::default()
    });
    let ended = Condvar::new();
    let next = || {
        let mut queue = queue.lock().expect(SOUND);
        loop {
            let fits = |index: &usize| queue.memory + loads[*index].memory <= memory;
            let at = match queue.waiting.iter().position(fits) {
                None if queue.waiting.is_empty() => return None,
                // One alone has to run, however large.
                None if queue.running == 0 => Some(0),
                at => at,
            };
            if let Some(at) = at {
                let index = queue.waiting.remove(at);
                queue.running += 1;
                queue.memory += loads[index].memory;
                return Some(index);
            }
            queue = ended.wait(queue).expect(SOUND);
        }
    };
    let finish = |index: usize| {
        let mut queue = queue.lock().expect(SOUND);
        queue.running -= 1;
        queue.memory -= loads[index].memory;
        queue.done += 1;
        queue.weight += loads[index].weight;
        let rest = (total - queue.weight).max(0.0) / queue.weight.max(f64::MIN_POSITIVE);
        tell(State {
            done: queue.done,
            remaining: Duration::from_secs_f64((begun.elapsed().as_secs_f64() * rest).min(1e9)),
        });
        ended.notify_all();
    };
    let worker = || {
        let jobs = std::iter::from_fn(next);
        jobs.map(|index| (index, work(index), finish(index)))
            .collect::<Vec<_>>()
    };
    let mut results: Vec<_> = thread::scope(|scope| {
        let workers = jobs.max(1).min(loads.len());
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let all = workers
            .into_iter()
            .map(|w| w.join().expect("no job panics"));
        all.flatten().collect()
    });
    results.sort_by_key(|(index, ..)| *index);
    results.into_iter().map(|(_, result, ())| result).collect()
}

/// MiB that guests may use here: what the kernel says is available, and 512 left for the rest.
pub fn read_available_memory() -> u64 {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = kib.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    // Not to be known is no reason not to run one.
    (kib.unwrap_or(0) / 1024).saturating_sub(512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn load(memory: u64, weight: f64) -> Load {
        Load { memory, weight }
    }

    #[test]
    fn limits_hold_and_every_job_is_run() {
        let loads: Vec<_> = (0..40).map(|n| load(100 + n % 3 * 100, n as f64)).collect();
        let (memory, most, jobs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let work = |index: usize| {
            let own = loads[index].memory;
            most.fetch_max(
                memory.fetch_add(own, Ordering::SeqCst) + own,
                Ordering::SeqCst,
            );
            assert!(jobs.fetch_add(1, Ordering::SeqCst) < 4);
            thread::sleep(Duration::from_millis(2));
            jobs.fetch_sub(1, Ordering::SeqCst);
            memory.fetch_sub(own, Ordering::SeqCst);
            index
        };
        let results = run_jobs(&loads, 4, 500, work, |_| {});
        assert_eq!(results, (0..40).collect::<Vec<_>>());
        let most = most.load(Ordering::SeqCst);
        assert!((301..=500).contains(&most), "{most} MiB at once");
    }

    #[test]
    fn one_that_is_too_large_runs_alone() {
        let running = AtomicU64::new(0);
        let work = |index: usize| {
            let beside = running.fetch_add(1, Ordering::SeqCst);
            assert!(index == 1 || beside == 0);
            thread::sleep(Duration::from_millis(5));
            running.fetch_sub(1, Ordering::SeqCst);
        };
        run_jobs(
            &[load(99, 1.0), load(5, 2.0), load(99, 3.0)],
            3,
            10,
            work,
            |_| {},
        );
    }

    #[test]
    fn long_ones_first_and_the_rest_is_estimated() {
        let (order, states) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let work = |index: usize| {
            thread::sleep(Duration::from_millis(20));
            order.lock().unwrap().push(index);
        };
        let tell = |state| states.lock().unwrap().push(state);
        run_jobs(
            &[load(1, 1.0), load(1, 8.0), load(1, 1.0)],
            1,
            9,
            work,
            tell,
        );
        assert_eq!(order.into_inner().unwrap(), [1, 0, 2]);
        let states = states.into_inner().unwrap();
        // A quarter of the 20 ms and more that the first one took.
        assert!(states[0].done == 1 && states[0].remaining >= Duration::from_millis(5));
        assert_eq!(states[2].remaining, Duration::ZERO);
    }
}
