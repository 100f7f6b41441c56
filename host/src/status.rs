//! What every cluster should have, has, and runs.
//!
//! Looking and judging are apart: [`look`] asks servers and proxies, and what is made of their answers is pure.

mod drift;
mod json;
mod look;
mod rollout;
mod text;

use std::collections::BTreeMap;

use policy::compile::ClusterPlans;
use policy::name::{ClusterName, Namespace};
use policy::plan::{PlanError, Role};
use serde_json::Value;
use time::OffsetDateTime;

use crate::plugin;
use crate::proxies::{Proxy, Stamp};
use crate::rollout::{Placed, Standing, State};
pub use drift::Edit;
pub use json::json;
pub use look::{Look, look};
pub use rollout::{Rollout, Told};
pub use text::text;

/// The plans that the proxies of a cluster should run: of each place, for the proxies of one namespace or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plans {
    enforced: BTreeMap<At, Stamp>,
    /// Those that are tried beside them.
    tried: BTreeMap<At, Stamp>,
}

/// The proxies of one namespace or of all, and one of their places.
type At = (Role, Option<Namespace>);

/// What became of a cluster.
#[derive(Debug, Clone)]
pub struct Status {
    /// The cluster.
    pub cluster: ClusterName,
    /// A digest over the plans that it should have.
    pub wanted: String,
    /// What was found there, or why nothing was.
    pub found: Result<Found, String>,
}

/// What was found in a cluster.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its objects.
    pub standing: Standing,
    /// Its proxies, or why nobody knows them.
    pub proxies: Result<Vec<Judged>, String>,
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The versions of Istio: those of its control planes, and where it has none, of its proxies.
    pub istio: Vec<String>,
    /// When we last changed an object there.
    pub changed: Option<OffsetDateTime>,
    /// What it tells of rollouts, or why it tells nothing.
    pub told: Result<Told, String>,
}

/// A proxy, and what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The proxy.
    pub proxy: Proxy,
    /// How what it runs stands to what it should.
    pub runs: Runs,
}

/// How what a proxy runs stands to what it should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// It is what it should be.
    Wanted,
    /// Another plan, at one of its places.
    Other {
        /// The place.
        role: Role,
        /// The plan.
        stamp: Stamp,
        /// Whether it is the one that the cluster's objects have: what should run was not rolled out.
        applied: bool,
    },
    /// The filter is not at a place where it should be.
    Lacks(Role),
    /// The filter is not there at all.
    Nothing,
    /// It did not say.
    Silent(String),
}

/// What a cluster comes to: the first that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nobody answers.
    Unreachable,
    /// Somebody else has changed objects of ours.
    Drifted,
    /// None of our plugins is there.
    NotApplied,
    /// What is there is not what is wanted.
    Outdated,
    /// What is there is what is wanted, and not all proxies run it.
    Behind,
    /// What is there is what is wanted; what proxies run nobody can say.
    Unproven,
    /// Every proxy runs what is wanted.
    InForce,
}

impl Condition {
    /// As a table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Drifted => "Drifted",
            Self::NotApplied => "NotApplied",
            Self::Outdated => "Outdated",
            Self::Behind => "Behind",
            Self::Unproven => "Unproven",
            Self::InForce => "InForce",
        }
    }
}

/// An object that others have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The object.
    pub object: String,
    /// Who wrote what; nobody, where it lacks what we said and nobody owns anything instead.
    pub edits: Vec<Edit>,
}

impl Plans {
    /// Those of a cluster.
    pub fn of(plans: &ClusterPlans) -> Result<Self, PlanError> {
        let mut stamps = BTreeMap::new();
        for (role, namespace, plan) in plans.parts() {
            if let Some(stamp) = Stamp::of(&plugin::digest(&plan)?) {
                stamps.insert((role, namespace.cloned()), stamp);
            }
        }
        Ok(Self { enforced: stamps, tried: BTreeMap::new() })
    }

    /// Those that plugins have which are for a cluster; `root` is Istio's namespace.
    pub fn of_objects(objects: &[Value], cluster: &ClusterName, root: &str) -> Self {
        let plan = |object: &Value, digest: &str| {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str);
            let configured = plugin::configured(object)?;
            let said = |path: &str| configured.pointer(path).and_then(Value::as_str);
            let (home, role) = (said("/plan/home/cluster")?, said("/role")?);
            let role = Role::ALL.into_iter().find(|known| known.as_str() == role)?;
            let own = text("/metadata/namespace").filter(|own| *own != root);
            let own = own.and_then(|own| own.parse().ok());
            let stamp = Stamp::of(said(digest)?)?;
            (home == cluster.as_str()).then_some(((role, own), stamp))
        };
        let all = |digest: &str| objects.iter().filter_map(|object| plan(object, digest)).collect();
        Self { enforced: all("/digest"), tried: all("/trial/digest") }
    }

    /// Whether a proxy tries what it should, at each place where it has a plan.
    pub fn tries(&self, proxy: &Proxy) -> bool {
        let Ok(reading) = &proxy.said else { return false };
        let told = reading.plans.keys().filter(|role| **role != Role::Upstream);
        told.into_iter().all(|role| {
            let told = reading.trials.get(role);
            match &proxy.namespace {
                Some(own) => {
                    let own = (*role, Some(own.clone()));
                    let at = if self.enforced.contains_key(&own) { own } else { (*role, None) };
                    self.tried.get(&at) == told
                }
                None => self.enforced.iter().any(|(at, stamp)| {
                    at.0 == *role && reading.plans.get(role) == Some(stamp) && self.tried.get(at) == told
                }),
            }
        })
    }

    /// Whether a proxy of a namespace should run this plan at a place. Where its namespace is not known, it may be that of
    /// any.
    fn has(&self, role: Role, namespace: Option<&Namespace>, stamp: Stamp) -> bool {
        let plans = &self.enforced;
        let own = namespace.and_then(|own| plans.get(&(role, Some(own.clone()))));
        match (own, namespace) {
            (Some(own), _) => *own == stamp,
            (None, Some(_)) => plans.get(&(role, None)) == Some(&stamp),
            (None, None) => plans.iter().any(|((at, _), known)| *at == role && *known == stamp),
        }
    }

    /// What a proxy runs, by these plans and by those that the cluster's objects have.
    pub fn judge(&self, proxy: &Proxy, applied: &[Stamp]) -> Runs {
        let reading = match &proxy.said {
            Ok(reading) => reading,
            Err(silence) => return Runs::Silent(silence.to_string()),
        };
        // A place behind the load balancer has a plan for each service, and they tell of themselves by one name.
        let told = || reading.plans.iter().filter(|(role, _)| **role != Role::Upstream);
        if told().next().is_none() {
            return Runs::Nothing;
        }
        let other = told().find(|(role, stamp)| !self.has(**role, proxy.namespace.as_ref(), **stamp));
        if let Some((role, stamp)) = other {
            return Runs::Other { role: *role, stamp: *stamp, applied: applied.contains(stamp) };
        }
        match proxy.kind.needs().filter(|role| !reading.plans.contains_key(role)) {
            Some(role) => Runs::Lacks(role),
            None => Runs::Wanted,
        }
    }
}

impl Status {
    /// What the cluster comes to.
    pub fn condition(&self) -> Condition {
        let Ok(found) = &self.found else { return Condition::Unreachable };
        if !found.drifts(&self.wanted).is_empty() {
            return Condition::Drifted;
        }
        if found.standing.digest.is_none() {
            return Condition::NotApplied;
        }
        if found.standing.objects.iter().any(|object| object.state != State::AsWanted) {
            return Condition::Outdated;
        }
        match &found.proxies {
            Err(_) => Condition::Unproven,
            Ok(proxies) if proxies.iter().all(|judged| judged.runs == Runs::Wanted) => Condition::InForce,
            Ok(_) => Condition::Behind,
        }
    }
}

impl Found {
    /// The objects that others have changed. One that bears the wanted plan and says something else was changed too, though
    /// nobody owns what is missing from it.
    pub fn drifts(&self, wanted: &str) -> Vec<Drift> {
        let is_wanted = self.standing.digest.as_deref() == Some(wanted);
        let drift = |object: &Placed| {
            let edits = object.seen.as_ref().map(drift::edits).unwrap_or_default();
            let is_plugin = object.seen.as_ref().is_some_and(|seen| plugin::extension(seen).is_some());
            let changed = is_wanted && is_plugin && object.state == State::Differs;
            (!edits.is_empty() || changed).then(|| Drift { object: object.name.clone(), edits })
        };
        self.standing.objects.iter().filter_map(drift).collect()
    }

    /// How many proxies run what they should, and how many there are.
    pub fn running(&self) -> Result<(usize, usize), &str> {
        let proxies = self.proxies.as_ref().map_err(String::as_str)?;
        let wanted = proxies.iter().filter(|judged| judged.runs == Runs::Wanted);
        Ok((wanted.count(), proxies.len()))
    }
}

#[cfg(test)]
mod tests;
