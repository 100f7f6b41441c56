//! Many clusters at once, but not all.

use std::future::Future;

use tokio::task::JoinSet;

/// Runs tasks, `limit` of them at a time, and returns what came of each in the order of the tasks; `None` for one that
/// broke. When this is dropped, so are they.
pub async fn bounded<F>(tasks: impl IntoIterator<Item = F>, limit: usize) -> Vec<Option<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut waiting = tasks.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    loop {
        while running.len() < limit.max(1) {
            let Some((number, task)) = waiting.next() else { break };
            if done.len() <= number {
                done.resize_with(number + 1, || None);
            }
            running.spawn(async move { (number, task.await) });
        }
        match running.join_next().await {
            None => return done,
            Some(Ok((number, result))) => {
                if let Some(place) = done.get_mut(number) {
                    *place = Some(result);
                }
            }
            Some(Err(_broken)) => {}
        }
    }
}

#[cfg(test)]
mod tests;
