//! A fork-join pool.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::{Error, Result};

/// The most threads that a plan uses.
pub const MAX_THREADS: usize = 16;

/// Threads that a plan's steps are shared out to. With one thread there is no pool and no hand-over.
pub struct Pool {
    inner: Option<rayon::ThreadPool>,
    threads: usize,
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
        Ok(Self { inner, threads })
    }

    /// How many threads share the work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on the pool, so that [`Pool::for_each`] inside it forks without a hand-over.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.inner {
            Some(pool) => pool.install(work),
            None => work(),
        }
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
            return Resident::Here(Box::new(move |object| work(object, &pool)));
        };
        let (to, objects) = sync_channel::<T>(1);
        let (done, from) = sync_channel(1);
        inner.spawn(move || {
            while let Ok(mut object) = objects.recv() {
                work(&mut object, &pool);
                if done.send(object).is_err() {
                    break;
                }
            }
        });
        Resident::There { to, from }
    }

    /// Splits `rows` into at most one part a thread: the rows of a part, a multiple of `granule` (but the last).
    pub fn rows_per_job(&self, rows: usize, granule: usize) -> usize {
        rows.div_ceil(self.threads)
            .next_multiple_of(granule.max(1))
            .max(1)
    }
}

/// Work that lives on a pool, made by [`Pool::resident`]. It ends when this is dropped.
pub enum Resident<T> {
    /// A pool of one thread: the work is done by whoever asks for it.
    Here(Box<dyn FnMut(&mut T) + Send>),
    There {
        to: SyncSender<T>,
        from: Receiver<T>,
    },
}

impl<T> Resident<T> {
    /// Does the work on `object` and gives it back. From the second time on this allocates nothing beyond what the work
    /// does. `None` if the work panicked on its thread, now or before.
    pub fn run(&mut self, mut object: T) -> Option<T> {
        match self {
            Self::Here(work) => {
                work(&mut object);
                Some(object)
            }
            Self::There { to, from } => {
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
