//! One call to a server: sent, answered in time or not, tried again where that can help.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::header::RETRY_AFTER;
use kube::client::Body;
use serde_json::Value;
use tokio::time::Instant;

use super::call::Call;
use super::status;
use super::{Cluster, Problem};
use crate::text::chain;

/// How often a call is tried, and how long it waits before the second time; each time after waits twice as long.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// More bytes than an object has, or a page of a list.
const LARGEST: usize = 1 << 30;

impl Cluster {
    /// Sends a call, again where that can help, and gives up when the cluster's time is over.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, Problem> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = PAUSE;
        let mut tried = 0;
        loop {
            tried += 1;
            let problem = match tokio::time::timeout_at(deadline, self.once(call)).await {
                Err(_) => return Err(Problem::TimedOut { after: self.timeout }),
                Ok(Ok(object)) => return Ok(object),
                Ok(Err(problem)) => problem,
            };
            let Some(wait) = problem.wait(pause) else { return Err(problem) };
            // What it would wait for cannot come in time; what went wrong says more than that time is over.
            if tried == TRIES || Instant::now() + wait >= deadline {
                return Err(problem);
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    async fn once(&self, call: &Call) -> Result<Value, Problem> {
        let body = self.bytes(call, LARGEST).await?;
        serde_json::from_slice(&body).map_err(|error| Problem::Unreadable { why: error.to_string() })
    }

    /// What is answered, whatever it is, if it is a success and of at most so many bytes.
    pub(super) async fn bytes(&self, call: &Call, most: usize) -> Result<Vec<u8>, Problem> {
        let answer = self.client.send(call.request()?).await.map_err(|error| unsent(&error))?;
        let (head, body) = answer.into_parts();
        let body = gathered(body, most).await?;
        if head.status.is_success() {
            return Ok(body);
        }
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(status::problem(call, head.status, retry_after.map(Duration::from_secs), &body))
    }
}

/// A body of at most so many bytes: who answers may be anybody behind the API server.
async fn gathered(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::Unreadable { why: format!("it is of more than {most} bytes") })
        }
        Err(error) => Err(Problem::Unreachable { why: chain(&*error) }),
    }
}

/// Why a call got no answer.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kube has an error for each thing it does; one is not of the way"
)]
fn unsent(error: &kube::Error) -> Problem {
    let why = chain(error);
    match error {
        kube::Error::Auth(_) => Problem::Credentials { why },
        _ => Problem::Unreachable { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_without_end_costs_no_more_than_an_answer_may() {
        let told = gathered(Body::from(vec![b'x'; 65]), 64).await.unwrap_err().to_string();
        assert!(told.ends_with("it is of more than 64 bytes"), "{told}");
        assert_eq!(gathered(Body::from(vec![b'x'; 64]), 64).await.unwrap().len(), 64);
    }
}
