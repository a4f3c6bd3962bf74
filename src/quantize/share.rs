//! Work on many pictures, shared out among threads. What comes of it does not depend on how many there are.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::Progress;
use crate::error::{Error, Result};

/// More threads than this are not used unless asked for: each holds an engine with all its values.
const MOST_THREADS: usize = 4;

/// As many threads as the CPU has cores, at most 4.
pub(super) fn default_threads() -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cores.min(NonZeroUsize::new(MOST_THREADS).unwrap_or(NonZeroUsize::MIN))
}

/// What came of the items, in their order, and what each thread had of its own.
pub(super) struct Shared<S, T> {
    pub results: Vec<T>,
    /// In no order, and never more than there are threads: only sums that do not depend on an order may be kept here.
    pub states: Vec<S>,
}

/// Calls `work` on each of `0..count`, on at most `threads` threads, each with a state that `start` makes.
///
/// # Errors
/// That of the first item, by its number, that has one.
pub(super) fn share<S: Send, T: Send>(
    (threads, count): (NonZeroUsize, usize),
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
    (called, progress): (&str, &mut Progress<'_>),
) -> Result<Shared<S, T>> {
    let next = AtomicUsize::new(0);
    let has_failed = AtomicBool::new(false);
    let (done, finished) = mpsc::channel();
    let (start, work, next, has_failed) = (&start, &work, &next, &has_failed);
    // Items are handed out in order, so those before the first that fails are all worked on.
    let run = move |done: mpsc::Sender<(usize, Result<T>)>| -> Result<S> {
        let mut state = start()?;
        while !has_failed.load(Ordering::Relaxed) {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= count {
                break;
            }
            let result = work(&mut state, item);
            has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
            // The receiver outlives the threads.
            let _ = done.send((item, result));
        }
        Ok(state)
    };
    thread::scope(|scope| {
        let threads = threads.get().min(count.max(1));
        let spawned: Vec<_> = (0..threads)
            .map(|_| {
                let done = done.clone();
                scope.spawn(move || run(done))
            })
            .collect();
        drop(done);
        let mut results: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
        progress.step(called, 0, count);
        for (so_far, (item, result)) in finished.iter().enumerate() {
            results[item] = Some(result);
            progress.step(called, so_far + 1, count);
        }
        let joined = spawned.into_iter().map(|thread| {
            let gone = || Error::Internal(format!("{called}: a thread panicked"));
            thread.join().unwrap_or_else(|_| Err(gone()))
        });
        let states: Result<Vec<S>> = joined.collect();
        // A state that cannot be made is told before items that were never worked on.
        let results: Result<Vec<T>> = results.into_iter().flatten().collect();
        let results = results?;
        Ok(Shared {
            results,
            states: states?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(
        threads: usize,
        work: impl Fn(&mut u64, usize) -> Result<usize> + Sync,
    ) -> Result<Shared<u64, usize>> {
        let threads = NonZeroUsize::new(threads).unwrap();
        let mut quiet = |_: &str, _: usize, _: usize| {};
        share(
            (threads, 50),
            || Ok(0),
            work,
            ("testing", &mut Progress(&mut quiet)),
        )
    }

    #[test]
    fn results_keep_their_order() {
        for threads in [1, 3, 8] {
            let shared = on(threads, |sum, item| {
                *sum += item as u64;
                Ok(item * item)
            });
            let shared = shared.unwrap();
            assert!(
                shared
                    .results
                    .iter()
                    .enumerate()
                    .all(|(item, result)| *result == item * item)
            );
            assert_eq!(shared.states.iter().sum::<u64>(), 49 * 50 / 2);
            assert!(shared.states.len() <= threads);
        }
    }

    #[test]
    fn the_first_failure_is_told() {
        let fails = |_: &mut u64, item: usize| match item {
            7 | 9 | 30 => Err(Error::Internal(format!("item {item}"))),
            _ => Ok(item),
        };
        for threads in [1, 4] {
            let error = on(threads, fails).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("item 7"), "{error}");
        }
    }

    #[test]
    fn nothing_to_do_is_no_error() {
        let mut quiet = |_: &str, _: usize, _: usize| {};
        let none = share(
            (NonZeroUsize::MIN, 0),
            || Ok(()),
            |(), item| Ok(item),
            ("testing", &mut Progress(&mut quiet)),
        );
        assert!(none.unwrap().results.is_empty());
    }
}
