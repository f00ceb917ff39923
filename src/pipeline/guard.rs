//! Confines a panic to the future that panicked.
//!
//! Steps are polled inside their worker's task rather than spawned: a spawn costs an allocation and a trip through the
//! scheduler per step, and leaves a step running unobserved if the engine itself is dropped.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs a future to its end; the message of its panic if it panics.
pub(super) async fn guard<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // Unwind safe: the future owns what it works on, and is never polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(message(&*panic))),
        }
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_passes_through() {
        let future = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(guard(future).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_becomes_its_message() {
        assert_eq!(guard(async { panic!("plain") }).await, Err::<(), _>("plain".into()));
        assert_eq!(guard(async { panic!("{}", 42) }).await, Err::<(), _>("42".into()));
        let odd = async { std::panic::panic_any(42) };
        assert_eq!(guard(odd).await, Err::<(), _>("a panic without a message".into()));
    }
}
