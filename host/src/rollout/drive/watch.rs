//! Gates asked until they open or say no, and a wave watched for its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::Progress;
use crate::rollout::gate::{Gate, Later, Verdict, Wanted};
use crate::rollout::job::Looker;
use crate::rollout::machine::Event;

/// How often gates are asked that are not open yet, and those of a wave that bakes.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the objects of one cluster are what was written.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) looker: Looker,
    pub(super) patience: Duration,
}

impl Gate for Applied {
    fn name(&self) -> &'static str {
        "applied"
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn look<'g>(&'g self, _wanted: &'g Wanted) -> Later<'g, Verdict> {
        Box::pin(async {
            match self.looker.differs().await {
                Ok(None) => Verdict::Pass,
                Ok(Some(file)) => Verdict::NotYet(format!("{file} is not as it was written")),
                Err(trouble) => Verdict::NotYet(trouble.to_string()),
            }
        })
    }
}

/// What all gates say together: the first that fails, or has been shut for too long; else the first that is shut.
async fn ask(gates: &[Arc<dyn Gate>], wanted: &Wanted, since: Instant) -> Verdict {
    let mut shut = Verdict::Pass;
    for gate in gates {
        match gate.look(wanted).await {
            Verdict::Pass => {}
            Verdict::Fail(why) => return Verdict::Fail(format!("{}: {why}", gate.name())),
            Verdict::NotYet(why) if since.elapsed() >= gate.patience() => {
                let (name, patience) = (gate.name(), gate.patience());
                return Verdict::Fail(format!("{name}: {why} after {} s", patience.as_secs()));
            }
            Verdict::NotYet(why) if shut == Verdict::Pass => {
                shut = Verdict::NotYet(format!("{}: {why}", gate.name()));
            }
            Verdict::NotYet(_) => {}
        }
    }
    shut
}

/// Waits until all gates of a cluster are open.
pub(super) async fn open(
    gates: Vec<Arc<dyn Gate>>,
    wanted: Wanted,
    tell: UnboundedSender<Progress>,
) -> Event {
    let cluster = wanted.cluster.clone();
    let mut told = String::new();
    loop {
        match ask(&gates, &wanted, wanted.since).await {
            Verdict::Pass => return Event::Passed(cluster),
            Verdict::Fail(why) => return Event::Refused(cluster, why),
            Verdict::NotYet(why) => {
                if why != told {
                    // Nobody listens any more when it is over.
                    let _over = tell.send(Progress::Waits(cluster.clone(), why.clone())).is_err();
                    told = why;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches the clusters of a wave for a time, in the end of which all gates must be open. One that is shut for longer
/// than its patience has failed.
pub(super) async fn bake(
    watched: Vec<(Vec<Arc<dyn Gate>>, Wanted)>,
    time: Duration,
    tell: UnboundedSender<Progress>,
) -> Event {
    let begun = Instant::now();
    let mut shut_since: Vec<Option<Instant>> = vec![None; watched.len()];
    loop {
        for ((gates, wanted), shut) in watched.iter().zip(&mut shut_since) {
            let since = shut.unwrap_or_else(Instant::now);
            match ask(gates, wanted, since).await {
                Verdict::Pass => *shut = None,
                Verdict::Fail(why) => return Event::Refused(wanted.cluster.clone(), why),
                Verdict::NotYet(why) => {
                    if shut.is_none() {
                        let _over = tell.send(Progress::Waits(wanted.cluster.clone(), why)).is_err();
                    }
                    *shut = Some(since);
                }
            }
        }
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() && shut_since.iter().all(Option::is_none) {
            return Event::Baked;
        }
        tokio::time::sleep(left.clamp(Duration::from_millis(10), PAUSE)).await;
    }
}
