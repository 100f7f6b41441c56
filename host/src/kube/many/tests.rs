use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn no_more_run_at_a_time_than_said_and_results_keep_their_order() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let task = |number: usize| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Later ones would end first.
            for _ in number..20 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            number
        }
    };
    let done = bounded((0..20).map(task), 4).await;
    assert_eq!(done, (0..20).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
#[should_panic(expected = "this one breaks")]
async fn one_that_breaks_is_not_passed_over() {
    let task = |number: usize| async move { assert_ne!(number, 1, "this one breaks") };
    bounded((0..3).map(task), 2).await;
}
