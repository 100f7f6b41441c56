//! A lease that is held: renewed until it is let go, and never trusted for longer than it can be relied on.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::task::JoinSet;

use super::{Holder, has_changed, id, is_to_pause, set};
use crate::kube::Cluster;
use crate::rollout::record::timestamp;

/// What a runner has of a cluster. It ends with this value at the latest when its time is over.
#[derive(Debug)]
pub(in crate::rollout) enum Hold {
    /// It is only looked at.
    Nothing,
    /// A lease and what renews it.
    Lease {
        /// What the runner asks.
        state: Arc<State>,
        /// What renews it.
        renewal: JoinSet<()>,
        /// Where it is.
        server: Arc<Cluster>,
        /// Who has it.
        holder: Holder,
    },
    /// A lock, which the system ends with the file.
    Lock {
        /// The directory.
        directory: File,
        /// What asks to pause.
        pause: PathBuf,
    },
}

/// What is known of a lease.
#[derive(Debug)]
pub(in crate::rollout) struct State {
    lease: Mutex<Value>,
    /// Until when nobody else can have taken it.
    until: Mutex<Instant>,
    lost: AtomicBool,
    pause: AtomicBool,
}

/// What stays whole if whoever held it panicked: each is written at once.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hold {
    pub(super) fn of_directory(directory: File, pause: PathBuf) -> Self {
        // A wish that nobody was there to hear.
        let _none = std::fs::remove_file(&pause).is_err();
        Self::Lock { directory, pause }
    }

    pub(super) fn of_lease(server: Arc<Cluster>, lease: Value, holder: Holder) -> Self {
        let state = Arc::new(State {
            lease: Mutex::new(lease),
            until: Mutex::new(Instant::now() + holder.time),
            lost: AtomicBool::new(false),
            pause: AtomicBool::new(false),
        });
        let mut renewal = JoinSet::new();
        renewal.spawn(renew(Arc::clone(&state), Arc::clone(&server), holder.clone()));
        Self::Lease { state, renewal, server, holder }
    }

    /// What can be asked from elsewhere whether it still holds.
    pub(in crate::rollout) fn guard(&self) -> Guard {
        match self {
            Self::Lease { state, .. } => Guard(Some(Arc::clone(state))),
            Self::Lock { .. } | Self::Nothing => Guard(None),
        }
    }

    /// Whether somebody wants the holder to stop where it is.
    pub(in crate::rollout) fn is_to_pause(&self) -> bool {
        match self {
            Self::Lease { state, .. } => state.pause.load(Ordering::Relaxed),
            Self::Lock { pause, .. } => pause.exists(),
            Self::Nothing => false,
        }
    }

    /// Whether somebody else has taken it.
    pub(in crate::rollout) fn is_lost(&self) -> bool {
        match self {
            Self::Lease { state, .. } => state.lost.load(Ordering::Relaxed),
            Self::Lock { .. } | Self::Nothing => false,
        }
    }

    /// Gives it back, so that nobody need wait until its time is over.
    pub(in crate::rollout) async fn release(self) {
        match self {
            Self::Lease { state, mut renewal, server, holder } => {
                renewal.shutdown().await;
                if state.lost.load(Ordering::Relaxed) {
                    return;
                }
                let mut lease = locked(&state.lease).clone();
                set(&mut lease, "metadata", "annotations", Value::Object(serde_json::Map::new()));
                set(&mut lease, "spec", "holderIdentity", Value::Null);
                let given = server.replace(&lease).await;
                if given.as_ref().is_err_and(has_changed)
                    && let Ok(Some(mut lease)) = server.get(&id_of(&lease)).await
                    && lease.pointer("/spec/holderIdentity").and_then(Value::as_str) == Some(&holder.name)
                {
                    set(&mut lease, "metadata", "annotations", Value::Object(serde_json::Map::new()));
                    set(&mut lease, "spec", "holderIdentity", Value::Null);
                    // What cannot be given back runs out.
                    let _runs_out = server.replace(&lease).await.is_err();
                }
            }
            Self::Lock { directory, pause } => {
                let _none = std::fs::remove_file(pause).is_err();
                drop(directory);
            }
            Self::Nothing => {}
        }
    }
}

fn id_of(lease: &Value) -> crate::kube::Id {
    id(lease.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default())
}

/// Asked before every step.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Guard(Option<Arc<State>>);

impl Guard {
    /// One that always holds: of what nobody keeps apart.
    pub(in crate::rollout) fn none() -> Self {
        Self(None)
    }

    /// Whether nobody else can have the lease.
    pub(in crate::rollout) fn holds(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|state| !state.lost.load(Ordering::Relaxed) && Instant::now() < *locked(&state.until))
    }
}

/// Renews a lease three times in its time, until it is lost. A server that cannot be reached is asked again: the lease
/// holds as long as it was last renewed for.
async fn renew(state: Arc<State>, server: Arc<Cluster>, holder: Holder) {
    loop {
        tokio::time::sleep(holder.time / 3).await;
        let asked = Instant::now();
        let mut lease = locked(&state.lease).clone();
        set(&mut lease, "spec", "renewTime", timestamp((holder.clock)()).into());
        let renewed = match server.replace(&lease).await {
            Err(error) if has_changed(&error) => match server.get(&id_of(&lease)).await {
                Ok(Some(found)) => again(&state, &holder, found),
                // Somebody has deleted it: whoever takes it now does not know of us.
                Ok(None) => {
                    state.lost.store(true, Ordering::Relaxed);
                    return;
                }
                Err(_) => None,
            },
            renewed => renewed.ok(),
        };
        if state.lost.load(Ordering::Relaxed) {
            return;
        }
        if let Some(renewed) = renewed {
            *locked(&state.lease) = renewed;
            *locked(&state.until) = asked + holder.time;
        }
    }
}

/// What a lease is that somebody has changed: ours with a wish, or theirs.
fn again(state: &State, holder: &Holder, found: Value) -> Option<Value> {
    if found.pointer("/spec/holderIdentity").and_then(Value::as_str) != Some(&holder.name) {
        state.lost.store(true, Ordering::Relaxed);
        return None;
    }
    if is_to_pause(&found) {
        state.pause.store(true, Ordering::Relaxed);
    }
    // It is renewed the next time; until then it holds as long as before.
    *locked(&state.lease) = found;
    None
}
