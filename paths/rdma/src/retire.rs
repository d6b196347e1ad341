//! Letting go of a queue without waiting for its device.
//!
//! Destroying a queue pair can take seconds: soft-RoCE waits for every packet it handed to the
//! network, and a packet waits for a neighbour that no longer answers (2.6 s seen with the peer's
//! cable pulled). A thread that carries other paths' I/O must not wait for that.

use std::sync::{Arc, Mutex, PoisonError};

use crate::host::HostQueue;
use crate::target::TargetQueue;

impl HostQueue {
    /// Destroys the queue on a thread of its own, then calls `done` there. From then on the device
    /// touches no buffer of the queue, whatever [`Drain`](umpath_transport::Drain) said before.
    ///
    /// When no thread can be started, both happen before the call returns.
    pub fn retire(self, done: impl FnOnce() + Send + 'static) {
        retire(self, done);
    }
}

impl TargetQueue {
    /// As [`HostQueue::retire`].
    pub fn retire(self, done: impl FnOnce() + Send + 'static) {
        retire(self, done);
    }
}

fn retire<Q: Send + 'static>(queue: Q, done: impl FnOnce() + Send + 'static) {
    let finish = move || {
        drop(queue);
        done();
    };
    // Shared, because a failed spawn would swallow it.
    let shared = Arc::new(Mutex::new(Some(finish)));
    let theirs = Arc::clone(&shared);
    let run = |job: &Mutex<Option<_>>| {
        let job: Option<_> = job.lock().unwrap_or_else(PoisonError::into_inner).take();
        job.map(call)
    };
    let builder = std::thread::Builder::new()
        .name("rdma-retire".into())
        .stack_size(256 << 10);
    if builder.spawn(move || run(&theirs)).is_err() {
        run(&shared);
    }
}

fn call(f: impl FnOnce()) {
    f();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Told(mpsc::Sender<&'static str>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send("destroyed");
        }
    }

    #[test]
    fn done_comes_after_the_destruction() {
        let (sender, receiver) = mpsc::channel();
        let queue = Told(sender.clone());
        retire(queue, move || {
            let _ = sender.send("done");
        });
        assert_eq!(receiver.iter().collect::<Vec<_>>(), ["destroyed", "done"]);
    }
}
