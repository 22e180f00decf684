// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs jobs side by side within limits of number and memory. Knows nothing of guests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `work` for each of `sizes` (what a job takes of `memory`) in order, at most `jobs` at once;
/// those of which `memory` does not hold `jobs` follow one by one. The results are in order, too.
pub fn run_jobs<T: Send>(
    sizes: &[u64],
    jobs: usize,
    memory: u64,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let jobs = jobs.clamp(1, sizes.len().max(1));
    let fits = |index: &usize| sizes[*index] * jobs as u64 <= memory;
    let (small, large): (Vec<_>, Vec<_>) = (0..sizes.len()).partition(fits);
    let results = Mutex::new(Vec::new());
    let run_all = |indices: &[usize], workers: usize| {
        let next = AtomicUsize::new(0);
        let take_jobs = || {
            while let Some(&index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = (index, work(index));
                results.lock().expect("no holder panics").push(result);
            }
        };
        thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(take_jobs))));
    };
    run_all(&small, jobs);
    run_all(&large, 1);
    let mut results = results.into_inner().expect("no holder panics");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
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
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    #[test]
    fn limits_hold_and_every_job_is_run() {
        // Four of the small ones fit, and of the two large ones each is alone.
        let sizes: Vec<_> = (0..40).map(|n| 100 + n % 3 * 100).chain([900; 2]).collect();
        let ([memory, most, jobs], begun) = ([(); 3].map(|()| AtomicU64::new(0)), Instant::now());
        let work = |index: usize| {
            let own = sizes[index];
            let held = memory.fetch_add(own, Relaxed) + own;
            assert!(held <= 500 || held == 900, "{held} MiB at once");
            most.fetch_max(jobs.fetch_add(1, Relaxed) + 1, Relaxed);
            thread::sleep(Duration::from_millis(own / 30));
            // However busy the host is, the second one comes beside the first.
            while index < 2 && most.load(Relaxed) < 2 && begun.elapsed().as_secs() < 60 {
                thread::sleep(Duration::from_millis(2));
            }
            jobs.fetch_sub(1, Relaxed);
            memory.fetch_sub(own, Relaxed);
            index
        };
        assert_eq!(run_jobs(&sizes, 4, 500, work), (0..42).collect::<Vec<_>>());
        assert!((2..=4).contains(&most.into_inner()), "one after the other");
        assert_eq!(run_jobs(&[], 4, 500, |index| index), [0; 0]);
    }
}
