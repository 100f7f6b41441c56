//! Gates asked until they open or say no, and a wave watched for its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::name::ClusterName;
use tokio::sync::mpsc::UnboundedSender;

use super::Progress;
use crate::kube::many;
use crate::rollout::gate::{Gate, Later, Verdict, Wanted};
use crate::rollout::job::Looker;
use crate::rollout::machine::Event;

/// How often gates are asked that are not open yet, and those of a wave that bakes.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one look may take: what answers there is in the hands of others, and may never end.
const LOOK: Duration = Duration::from_secs(120);

/// How clusters are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How many at a time.
    parallel: usize,
    /// How long each look may take.
    look: Duration,
}

impl Pace {
    pub(super) fn of(parallel: usize) -> Self {
        Self { parallel, look: LOOK }
    }
}

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

/// Has gates look at a cluster that is about to change. One that cannot see it in time has seen nothing.
pub(super) async fn before(gates: &[Arc<dyn Gate>], cluster: &ClusterName, pace: Pace) {
    for gate in gates {
        let _unseen = tokio::time::timeout(pace.look, gate.before(cluster)).await.is_err();
    }
}

/// What all gates say together: the first that fails, or has been shut for too long; else the first that is shut.
async fn ask(gates: &[Arc<dyn Gate>], wanted: &Wanted, since: Instant, pace: Pace) -> Verdict {
    let mut shut = Verdict::Pass;
    for gate in gates {
        let look = tokio::time::timeout(pace.look, gate.look(wanted)).await;
        let unanswered = |_| Verdict::NotYet(format!("no answer within {} s", pace.look.as_secs()));
        match look.unwrap_or_else(unanswered) {
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
    pace: Pace,
    tell: UnboundedSender<Progress>,
) -> Event {
    let cluster = wanted.cluster.clone();
    let mut told = String::new();
    loop {
        match ask(&gates, &wanted, wanted.since, pace).await {
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
/// than its patience has failed. So many are looked at at a time, and none waits for those before it.
pub(super) async fn bake(
    watched: Vec<(Vec<Arc<dyn Gate>>, Wanted)>,
    time: Duration,
    pace: Pace,
    tell: UnboundedSender<Progress>,
) -> Event {
    let begun = Instant::now();
    let mut shut_since: Vec<Option<Instant>> = vec![None; watched.len()];
    loop {
        let asking = watched.iter().zip(&shut_since).map(|((gates, wanted), shut)| {
            let (gates, wanted, since) = (gates.clone(), wanted.clone(), shut.unwrap_or_else(Instant::now));
            async move { (ask(&gates, &wanted, since, pace).await, since) }
        });
        let answers = many::bounded(asking.collect::<Vec<_>>(), pace.parallel).await;
        for (((_, wanted), shut), (verdict, since)) in watched.iter().zip(&mut shut_since).zip(answers) {
            match verdict {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    /// One that never ends its look at a cluster of this name, says no to another, and counts how many it looks at at once.
    #[derive(Debug, Default)]
    struct Endless {
        looks: AtomicUsize,
    }

    impl Gate for Endless {
        fn name(&self) -> &'static str {
            "endless"
        }

        fn patience(&self) -> Duration {
            Duration::ZERO
        }

        fn before<'g>(&'g self, _cluster: &'g ClusterName) -> Later<'g, ()> {
            Box::pin(std::future::pending())
        }

        fn look<'g>(&'g self, wanted: &'g Wanted) -> Later<'g, Verdict> {
            Box::pin(async move {
                self.looks.fetch_add(1, Ordering::Relaxed);
                match wanted.cluster.as_str() {
                    "endless" => std::future::pending().await,
                    "open" => Verdict::Pass,
                    _ => Verdict::Fail("it denies".to_owned()),
                }
            })
        }
    }

    fn watched(names: &[&str], gate: &Arc<Endless>) -> Vec<(Vec<Arc<dyn Gate>>, Wanted)> {
        let one = |name: &&str| {
            let gate: Arc<dyn Gate> = Arc::<Endless>::clone(gate);
            let cluster = name.parse().unwrap();
            (vec![gate], Wanted { cluster, all: Arc::default(), since: Instant::now() })
        };
        names.iter().map(one).collect()
    }

    #[tokio::test]
    async fn a_cluster_that_never_answers_keeps_no_gate_from_its_word() {
        let gate = Arc::new(Endless::default());
        let told = |event| {
            let Event::Refused(cluster, why) = event else { panic!("{event:?}") };
            format!("{cluster}: {why}")
        };
        let pace = Pace { parallel: 3, look: Duration::from_millis(20) };
        let tell = || unbounded_channel().0;
        before(&watched(&["open"], &gate)[0].0, &"open".parse().unwrap(), pace).await;
        // Whoever says no is heard although the one before it says nothing.
        let names = ["open", "no", "endless"];
        let event = bake(watched(&names, &gate), Duration::ZERO, pace, tell()).await;
        assert_eq!(told(event), "no: endless: it denies");
        assert_eq!(gate.looks.load(Ordering::Relaxed), 3);
        // Who says nothing has not opened.
        let event = bake(watched(&["endless"], &gate), Duration::ZERO, pace, tell()).await;
        assert_eq!(told(event), "endless: endless: no answer within 0 s after 0 s");
        let (gates, wanted) = watched(&["endless"], &gate).remove(0);
        let event = open(gates, wanted, pace, tell()).await;
        assert_eq!(told(event), "endless: endless: no answer within 0 s after 0 s");
    }
}
