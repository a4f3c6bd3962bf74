//! A fork-join pool: rayon's, kept awake while a plan runs.
//!
//! A rayon thread without work falls asleep within microseconds, and to wake it takes as long as a layer of a small
//! model. So each thread runs a companion that looks for work until the plan has ended and [`LINGER`] has passed, and
//! only then sleeps. It yields the CPU each time it finds none: where fewer cores are free than there are threads, the
//! thread that has work gets it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The most threads that a plan uses.
pub const MAX_THREADS: usize = 16;

/// How long threads look for work after a plan has ended.
const LINGER: Duration = Duration::from_micros(100);

/// Threads that a plan's steps are shared out to. With one thread there is no pool and no hand-over.
pub struct Pool {
    inner: Option<rayon::ThreadPool>,
    threads: usize,
    watch: Arc<Watch>,
}

/// Whether the threads of a pool are to look for work or to sleep.
struct Watch {
    start: Instant,
    /// Runs under way.
    runs: AtomicUsize,
    /// Nanoseconds after `start` up to which threads look for work.
    until: AtomicU64,
    is_closed: AtomicBool,
    sleepers: Vec<Sleeper>,
}

/// The place of a thread.
#[derive(Default)]
struct Sleeper {
    thread: OnceLock<Thread>,
    is_asleep: AtomicBool,
}

impl Watch {
    fn new(threads: usize) -> Self {
        Self {
            start: Instant::now(),
            runs: AtomicUsize::new(0),
            until: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            sleepers: (0..threads).map(|_| Sleeper::default()).collect(),
        }
    }

    /// A run, until the result is dropped.
    fn run(&self) -> Run<'_> {
        self.begin();
        Run(self)
    }

    /// A run begins: wakes whoever sleeps. [`Watch::end`] must follow.
    fn begin(&self) {
        self.runs.fetch_add(1, SeqCst);
        self.wake();
    }

    /// A run has ended.
    fn end(&self) {
        let until = (self.start.elapsed() + LINGER).as_nanos();
        self.until
            .store(u64::try_from(until).unwrap_or(u64::MAX), SeqCst);
        self.runs.fetch_sub(1, SeqCst);
    }

    fn wake(&self) {
        for sleeper in &self.sleepers {
            if sleeper.is_asleep.load(SeqCst)
                && let Some(thread) = sleeper.thread.get()
            {
                thread.unpark();
            }
        }
    }

    fn is_awake(&self) -> bool {
        let now = || u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.is_closed.load(SeqCst) || self.runs.load(SeqCst) > 0 || now() < self.until.load(SeqCst)
    }

    /// What thread `index` does: work where there is some, else wait for it.
    fn keep(&self, index: usize) {
        let Some(sleeper) = self.sleepers.get(index) else {
            return;
        };
        sleeper.thread.get_or_init(std::thread::current);
        while !self.is_closed.load(SeqCst) {
            if let Some(rayon::Yield::Executed) = rayon::yield_now() {
                continue;
            }
            if self.is_awake() {
                std::thread::yield_now();
                continue;
            }
            // A run that begins after the second look sees a sleeper, and its `unpark` ends this `park`.
            sleeper.is_asleep.store(true, SeqCst);
            if !self.is_awake() {
                std::thread::park();
            }
            sleeper.is_asleep.store(false, SeqCst);
        }
    }
}

/// A run under way.
struct Run<'a>(&'a Watch);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.watch.is_closed.store(true, SeqCst);
        self.watch.wake();
    }
}

impl Pool {
    /// A pool of `threads`, clamped to `1..=MAX_THREADS`.
    ///
    /// # Errors
    /// If the system refuses the threads.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = threads.clamp(1, MAX_THREADS);
        let inner = (threads > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("eyas-infer-{index}"))
                    .panic_handler(|_| {}) // whoever waits for a resident sees that it is gone
                    .build()
            })
            .transpose()
            .map_err(|error| Error::Io {
                action: format!("start {threads} inference threads"),
                error: std::io::Error::other(error),
            })?;
        let watch = Arc::new(Watch::new(threads));
        if let Some(pool) = &inner {
            let watch = Arc::clone(&watch);
            let (started, all) = sync_channel(threads);
            pool.spawn_broadcast(move |context| {
                // Whoever made the pool waits for it no longer than for all threads.
                let _ = started.send(());
                watch.keep(context.index());
            });
            // A companion that began while its thread waits inside other work would keep that work from ending: no
            // work is taken before all companions run.
            all.iter().take(threads).for_each(drop);
        }
        Ok(Self {
            inner,
            threads,
            watch,
        })
    }

    /// How many threads share the work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on the pool, so that [`Pool::for_each`] inside it forks without a hand-over.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let Some(pool) = &self.inner else {
            return work();
        };
        let _run = self.watch.run();
        pool.install(work)
    }

    /// Runs every job, at most as many at a time as there are threads, and returns when all are done. Does not
    /// allocate.
    pub fn for_each<J: Send>(&self, jobs: &mut [J], work: &(impl Fn(&mut J) + Sync)) {
        match jobs {
            [] => {}
            [job] => work(job),
            jobs if self.inner.is_none() => jobs.iter_mut().for_each(work),
            jobs => {
                let (left, right) = jobs.split_at_mut(jobs.len() / 2);
                rayon::join(|| self.for_each(left, work), || self.for_each(right, work));
            }
        }
    }

    /// [`Pool::for_each`] over at most [`MAX_THREADS`] jobs that an iterator makes.
    pub fn share<J: Send>(
        &self,
        mut jobs: impl Iterator<Item = J>,
        work: &(impl Fn(&mut J) + Sync),
    ) {
        let mut made: [Option<J>; MAX_THREADS] = std::array::from_fn(|_| jobs.next());
        debug_assert!(jobs.next().is_none());
        let count = made.iter().take_while(|job| job.is_some()).count();
        self.for_each(&mut made[..count], &|job: &mut Option<J>| {
            if let Some(job) = job {
                work(job);
            }
        });
    }

    /// Work to be done again and again, on a thread of the pool where it can fork without a hand-over.
    pub fn resident<T: Send + 'static>(
        self: &Arc<Self>,
        mut work: impl FnMut(&mut T, &Self) + Send + 'static,
    ) -> Resident<T> {
        let pool = Arc::clone(self);
        let Some(inner) = &self.inner else {
            return Resident(Home::Here(Box::new(move |object| work(object, &pool))));
        };
        let (to, objects) = sync_channel::<T>(1);
        let (done, from) = sync_channel(1);
        let watch = Arc::clone(&self.watch);
        self.watch.begin();
        inner.spawn(move || {
            pool.watch.end();
            while let Ok(mut object) = objects.recv() {
                work(&mut object, &pool);
                if done.send(object).is_err() {
                    break;
                }
            }
        });
        Resident(Home::There { to, from, watch })
    }

    /// Splits `rows` into at most one part a thread: the rows of a part, a multiple of `granule` (but the last).
    pub fn rows_per_job(&self, rows: usize, granule: usize) -> usize {
        rows.div_ceil(self.threads)
            .next_multiple_of(granule.max(1))
            .max(1)
    }
}

/// Work that lives on a pool, made by [`Pool::resident`]. It ends when this is dropped.
pub struct Resident<T>(Home<T>);

enum Home<T> {
    /// A pool of one thread: the work is done by whoever asks for it.
    Here(Box<dyn FnMut(&mut T) + Send>),
    There {
        to: SyncSender<T>,
        from: Receiver<T>,
        watch: Arc<Watch>,
    },
}

impl<T> Resident<T> {
    /// Does the work on `object` and gives it back. From the second time on this allocates nothing beyond what the work
    /// does. `None` if the work panicked on its thread, now or before.
    pub fn run(&mut self, mut object: T) -> Option<T> {
        match &mut self.0 {
            Home::Here(work) => {
                work(&mut object);
                Some(object)
            }
            Home::There { to, from, watch } => {
                let _run = watch.run();
                to.send(object).ok()?;
                from.recv().ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resident_works_on_its_pool_until_it_panics() {
        for threads in [1, 3] {
            let pool = Arc::new(Pool::new(threads).expect("threads"));
            let mut resident = pool.resident(|jobs: &mut Vec<usize>, pool| {
                pool.for_each(jobs, &|job| *job += 100);
            });
            for _ in 0..3 {
                let jobs = resident.run((0..20).collect()).expect("no panic");
                assert!(jobs.iter().enumerate().all(|(at, &job)| job == at + 100));
            }
        }
        let pool = Arc::new(Pool::new(2).expect("threads"));
        let mut resident = pool.resident(|odd: &mut usize, _| assert!(*odd % 2 == 1));
        assert_eq!(resident.run(3), Some(3));
        assert_eq!(resident.run(4), None);
        assert_eq!(resident.run(3), None);
    }

    /// Each new pool is at work at once, more threads than cores among them.
    #[test]
    fn new_pools_never_wait_for_themselves() {
        for round in 0..200 {
            let pool = Arc::new(Pool::new(2 + round % 7).expect("threads"));
            let mut resident = pool.resident(|jobs: &mut Vec<usize>, pool| {
                pool.for_each(jobs, &|job| *job += 1);
            });
            assert_eq!(resident.run(vec![0; 16]), Some(vec![1; 16]));
        }
    }

    #[test]
    fn threads_that_sleep_wake_for_the_next_run() {
        let pool = Arc::new(Pool::new(3).expect("threads"));
        let mut resident = pool.resident(|jobs: &mut Vec<usize>, pool| {
            pool.for_each(jobs, &|job| *job += 1);
        });
        let mut jobs = vec![0; 12];
        for round in 1..=20 {
            jobs = resident.run(jobs).expect("no panic");
            assert_eq!(jobs, vec![round; 12]);
            let pause = if round % 2 == 0 {
                3 * LINGER
            } else {
                LINGER / 50
            };
            std::thread::sleep(pause);
        }
        // Work from outside goes to a thread beside the resident's.
        assert_eq!(pool.enter(|| 5), 5);
    }

    #[test]
    fn every_job_runs_once() {
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads).expect("threads");
            let mut jobs: Vec<usize> = (0..37).collect();
            pool.enter(|| pool.for_each(&mut jobs, &|job| *job += 100));
            assert!(jobs.iter().enumerate().all(|(at, &job)| job == at + 100));
        }
    }

    #[test]
    fn parts_cover_the_rows() {
        let pool = Pool::new(4).expect("threads");
        assert_eq!(pool.rows_per_job(100, 4), 28);
        assert_eq!(pool.rows_per_job(3, 1), 1);
        assert_eq!(pool.rows_per_job(1, 8), 8);
    }
}
