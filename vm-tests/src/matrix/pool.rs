// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs jobs side by side within limits of number and memory. No crate that we found bounds the sum
//! of what its jobs hold. Knows nothing of guests.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::thread;

/// Runs `work` for each of `sizes` (what a job takes of `memory`), at most `jobs` at once. Those
/// that fit begin in their order; the results are in it.
pub fn run_jobs<T: Send>(
    sizes: &[u64],
    jobs: usize,
    memory: u64,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    struct Queue {
        waiting: Vec<usize>,
        free: u64,
    }
    const SOUND: &str = "no holder panics";
    let queue = Mutex::new(Queue {
        waiting: (0..sizes.len()).collect(),
        free: memory.max(1),
    });
    let ended = Condvar::new();
    // One alone has to run, however large.
    let find_size = |index: usize| sizes[index].min(memory.max(1));
    let next = || {
        let mut queue = queue.lock().expect(SOUND);
        while !queue.waiting.is_empty() {
            let fits = |index: &usize| find_size(*index) <= queue.free;
            if let Some(at) = queue.waiting.iter().position(fits) {
                let index = queue.waiting.remove(at);
                queue.free -= find_size(index);
                return Some(index);
            }
            queue = ended.wait(queue).expect(SOUND);
        }
        None
    };
    let results = Mutex::new(BTreeMap::new());
    let worker = || {
        while let Some(index) = next() {
            let result = work(index);
            results.lock().expect(SOUND).insert(index, result);
            queue.lock().expect(SOUND).free += find_size(index);
            ended.notify_all();
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, sizes.len().max(1)) {
            scope.spawn(worker);
        }
    });
    let results = results.into_inner().expect(SOUND);
    results.into_values().collect()
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
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::Duration;

    #[test]
    fn limits_hold_and_every_job_is_run() {
        // The last one is larger than the limit: it runs alone.
        let sizes: Vec<_> = (0..40).map(|n| 100 + n % 3 * 100).chain([900]).collect();
        let (memory, most, jobs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let work = |index: usize| {
            let own = sizes[index];
            let held = memory.fetch_add(own, SeqCst) + own;
            assert!(held <= 500 || held == 900, "{held} MiB at once");
            most.fetch_max(held % 900, SeqCst);
            assert!(jobs.fetch_add(1, SeqCst) < 4);
            thread::sleep(Duration::from_millis(2));
            jobs.fetch_sub(1, SeqCst);
            memory.fetch_sub(own, SeqCst);
            index
        };
        let results = run_jobs(&sizes, 4, 500, work);
        assert_eq!(results, (0..41).collect::<Vec<_>>());
        assert_eq!(run_jobs(&[], 4, 500, work), [0; 0]);
        assert!(most.into_inner() > 300, "one after the other");
    }

    #[test]
    fn they_begin_in_their_order_and_without_memory_alone() {
        let order = Mutex::new(Vec::new());
        run_jobs(&[7; 5], 3, 0, |index| {
            thread::sleep(Duration::from_millis(10 - 2 * index as u64));
            order.lock().unwrap().push(index);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4]);
    }
}
