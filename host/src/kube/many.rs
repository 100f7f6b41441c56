//! Many clusters at once, but not all.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::task::JoinSet;

/// Runs tasks, `limit` of them at a time, and returns what came of each in the order of the tasks. When this is dropped,
/// so are they; a panic in one is a panic here.
pub async fn bounded<F>(tasks: impl IntoIterator<Item = F>, limit: usize) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut waiting = tasks.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut done = BTreeMap::new();
    loop {
        while running.len() < limit.max(1) {
            let Some((number, task)) = waiting.next() else { break };
            running.spawn(async move { (number, task.await) });
        }
        match running.join_next().await {
            None => return done.into_values().collect(),
            Some(Ok((number, result))) => {
                done.insert(number, result);
            }
            Some(Err(broken)) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody cancels one of them.
                Err(_cancelled) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests;
