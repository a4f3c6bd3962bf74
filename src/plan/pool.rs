//! A fork-join pool.

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

    /// Splits `rows` into at most one part a thread: the rows of a part, a multiple of `granule` (but the last).
    pub fn rows_per_job(&self, rows: usize, granule: usize) -> usize {
        rows.div_ceil(self.threads)
            .next_multiple_of(granule.max(1))
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
