//! A bounded queue between two threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Holds at most `capacity` items. With a capacity of 1 and [`Queue::push_newest`] it is a slot for the newest item.
#[derive(Debug)]
pub(super) struct Queue<T> {
    capacity: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// What [`Queue::pop_within`] has got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped<T> {
    Item(T),
    /// Nothing came in time.
    Nothing,
    /// The queue is closed and empty.
    Closed,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue. `capacity` is at least 1.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Adds an item without waiting. A full queue gives up its oldest items: returns how many. `None` if the queue is
    /// closed.
    pub fn push_newest(&self, item: T) -> Option<u64> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let mut dropped = 0;
        while state.items.len() >= self.capacity {
            state.items.pop_front();
            dropped += 1;
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        Some(dropped)
    }

    /// Adds an item, waiting for room. `false` if the queue was closed meanwhile.
    pub fn push_wait(&self, item: T) -> bool {
        let mut state = self.lock();
        while state.items.len() >= self.capacity && !state.closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Takes the oldest item, waiting for one. `None` once the queue is closed and empty.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                drop(state);
                self.changed.notify_all();
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the oldest item, waiting for one, but not for longer than `limit`.
    pub fn pop_within(&self, limit: Duration) -> Popped<T> {
        let state = self.lock();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| {
                state.items.is_empty() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let popped = match state.items.pop_front() {
            Some(item) => Popped::Item(item),
            None if state.closed => Popped::Closed,
            None => Popped::Nothing,
        };
        drop(state);
        self.changed.notify_all();
        popped
    }

    /// Takes no more items; those inside can still be popped.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more items and drops those inside.
    pub fn abort(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.items.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// Whether it takes no more items.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn full_queue_gives_up_the_oldest() {
        let queue = Queue::new(2);
        assert_eq!(queue.push_newest(1), Some(0));
        assert_eq!(queue.push_newest(2), Some(0));
        assert_eq!(queue.push_newest(3), Some(1));
        queue.close();
        assert_eq!(queue.push_newest(4), None);
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(2), Some(3), None)
        );
    }

    #[test]
    fn waiting_push_waits_for_room_and_wakes_when_closed() {
        let queue = Arc::new(Queue::new(1));
        assert!(queue.push_wait(1));
        let pusher = {
            let queue = queue.clone();
            std::thread::spawn(move || (queue.push_wait(2), queue.push_wait(3)))
        };
        std::thread::sleep(Duration::from_millis(20));
        assert!(!pusher.is_finished());
        assert_eq!(queue.pop(), Some(1));
        std::thread::sleep(Duration::from_millis(20));
        queue.abort();
        assert_eq!(pusher.join().unwrap(), (true, false));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn waiting_for_an_item_has_an_end() {
        let queue = Queue::new(1);
        assert_eq!(queue.pop_within(Duration::ZERO), Popped::Nothing);
        queue.push_newest(1);
        queue.close();
        assert_eq!(queue.pop_within(Duration::ZERO), Popped::Item(1));
        assert_eq!(queue.pop_within(Duration::MAX), Popped::Closed);
    }
}
