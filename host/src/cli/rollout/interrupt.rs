//! A rollout that is interrupted stops where it is and gives its clusters back, as if it had been paused.

use std::future::{Future, pending};
use std::pin::pin;

use rustix::process::{getpid, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Out;
use crate::rollout::Brake;

const SAID: &str = "interrupted: it stops where it is, within seconds, to go on with `isthmus rollout resume`; once more ends it at once";

/// What tells a program to end. None is lost between one and the next.
struct Signals(Option<[Signal; 2]>);

impl Signals {
    fn new() -> Self {
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Self(interrupt.ok().zip(terminate.ok()).map(|(interrupt, terminate)| [interrupt, terminate]))
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some([interrupt, terminate]) => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            None => pending().await,
        }
    }
}

/// Sees a rollout through, or has it stop when this program is told to end. Told again it ends at once, in whatever it is: what
/// is left then is what is left of any program that was killed.
pub(super) async fn until_interrupted<T>(brake: Option<Brake>, rollout: impl Future<Output = T>) -> T {
    let mut rollout = pin!(rollout);
    let Some(brake) = brake else { return rollout.await };
    let mut signals = Signals::new();
    tokio::select! {
        done = &mut rollout => return done,
        () = signals.next() => Out::new().say(SAID),
    }
    let pulling = async {
        brake.pull().await;
        pending::<()>().await;
    };
    tokio::select! {
        done = &mut rollout => done,
        () = pulling => pending().await,
        () = signals.next() => {
            let _it_lives = kill_process(getpid(), rustix::process::Signal::KILL).is_err();
            pending().await
        }
    }
}
