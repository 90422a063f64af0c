//! Waiting for a disk, a lock or a database from async code.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does what may take long without being `async`. On a runtime of several threads the tasks of this thread go on in another one
/// meanwhile, so that only the task that asked waits. If the runtime is taken down while it waits, it panics at its next timer: a
/// process that serves ends without that. On a runtime of one thread, and outside of any, there is nobody to hand them to.
pub(crate) fn run<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::runtime::Runtime;

    /// Longer than any machine needs.
    pub(crate) const GENEROUS: Duration = Duration::from_secs(120);

    pub(crate) fn one_worker() -> Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// Whether a task gets its turn, and its timers too, while others on the runtime wait.
    pub(crate) fn is_free(runtime: &Runtime) -> bool {
        let (done, is_done) = mpsc::channel();
        runtime.spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = done.send(());
        });
        is_done.recv_timeout(GENEROUS).is_ok()
    }

    #[test]
    fn who_waits_keeps_no_other_task_of_the_thread_waiting() {
        let runtime = one_worker();
        let (go_on, wait) = mpsc::channel();
        let (begun, has_begun) = mpsc::channel();
        let waiting = runtime.spawn(async move {
            super::run(|| {
                // Within one another too.
                super::run(|| begun.send(()).unwrap());
                wait.recv_timeout(GENEROUS * 2).unwrap();
            });
        });
        has_begun.recv_timeout(GENEROUS).unwrap();
        assert!(is_free(&runtime));
        assert!(!waiting.is_finished());
        go_on.send(()).unwrap();
        runtime.block_on(waiting).unwrap();
    }

    #[test]
    fn where_there_is_no_other_thread_it_is_simply_done() {
        assert_eq!(super::run(|| 7), 7);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(async { super::run(|| 7) }), 7);
    }
}
