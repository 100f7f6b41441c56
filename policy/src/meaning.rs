//! What changes in meaning from some plans of a cluster to others, found by deciding and not by comparing texts.
//!
//! Of all requests, those that neither plan tells apart are of one kind. [`compare`] has both plans decide one request of each
//! kind, by [`evaluate`](crate::evaluate), and tells where they decide otherwise: in words of the policies, with the reasons
//! of both sides and a request for which it is so. What it has not compared it says.
//!
//! | place | what makes kinds |
//! |---|---|
//! | inbound | the workloads of each set of services; for each, cluster and how well it is known, identity; port, method, path, host |
//! | outbound | the services; for each, the values of the headers that pin or hash, and every draw of a split |
//! | gateway | the services; for each, the networks as both plans know addresses, and ports |
//! | proof | issuers, trust domains, tokens and tags, and the cluster that they prove |

mod arriving;
mod atoms;
mod boxes;
mod kinds;
mod leaving;
mod passing;
mod proof;
mod workloads;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::compile::ClusterPlans;
use crate::name::{ClusterName, Identity, Namespace, Service};
use crate::plan::{GatewayPlan, InboundPlan, OutboundPlan};
use crate::verdict::{Judgement, Verdict};

/// The plans that the proxies of one cluster have. Where there is none, nothing is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// That of the sidecars of clients.
    pub outbound: Option<OutboundPlan>,
    /// That of the sidecars of servers.
    pub inbound: Option<InboundPlan>,
    /// Those of the servers of single namespaces.
    pub apart: BTreeMap<Namespace, InboundPlan>,
    /// That of the east-west gateway.
    pub gateway: Option<GatewayPlan>,
}

impl From<&ClusterPlans> for Running {
    fn from(plans: &ClusterPlans) -> Self {
        Self {
            outbound: Some(plans.outbound.clone()),
            inbound: Some(plans.inbound.clone()),
            apart: plans.apart.clone(),
            gateway: Some(plans.gateway.clone()),
        }
    }
}

/// What is decided of a request, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Decision {
    /// Whether it goes on.
    pub allow: bool,
    /// The reason, as metrics and logs name it.
    pub reason: String,
    /// Where it may go: of what leaves a cluster, and is bound to somewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The reason for which policies in shadow would decide otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
}

impl Decision {
    fn of(judgement: &Judgement<'_>) -> Self {
        Self::by(&judgement.verdict, judgement.dissent())
    }

    fn by(verdict: &Verdict<'_>, dissent: Option<Verdict<'_>>) -> Self {
        Self {
            allow: verdict.is_allow(),
            reason: verdict.reason(),
            route: None,
            shadow: dissent.map(|shadow| shadow.reason()),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.reason)?;
        match &self.shadow {
            Some(reason) if self.allow => write!(out, " (Shadow would refuse: {reason})"),
            Some(reason) => write!(out, " (Shadow would let in: {reason})"),
            None => Ok(()),
        }
    }
}

/// In which way a decision is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// What was refused goes on.
    Opens,
    /// What went on is refused.
    Closes,
    /// A gateway shows what it hid.
    Shows,
    /// A gateway hides what it showed.
    Hides,
    /// It goes elsewhere.
    Moves,
    /// Other evidence proves a cluster.
    Proves,
    /// Only what policies in shadow would do is another.
    Shadows,
    /// Only the reason is another.
    Renames,
}

impl Kind {
    fn of(before: &Decision, after: &Decision) -> Self {
        match (before.allow, after.allow) {
            (false, true) => Self::Opens,
            (true, false) => Self::Closes,
            _ if before.route != after.route => Self::Moves,
            _ if before.reason == after.reason => Self::Shadows,
            _ => Self::Renames,
        }
    }

    /// Whether requests fare otherwise, and not only what is told of them.
    pub fn is_felt(self) -> bool {
        !matches!(self, Self::Shadows | Self::Renames)
    }
}

/// One thing that becomes otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// In which way.
    pub kind: Kind,
    /// For what: workloads, a service, or evidence.
    pub subject: String,
    /// For whom, each in words; empty: for everyone.
    pub who: Vec<String>,
    /// For which requests, each in words; empty: for all.
    pub what: Vec<String>,
    /// What is decided now.
    pub before: Decision,
    /// What would be decided.
    pub after: Decision,
    /// A request for which it is so.
    pub witness: Witness,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, subject, who, what, before, after, .. } = self;
        let whom =
            |word: &str| if who.is_empty() { String::new() } else { format!(" {word} {}", who.join(" or ")) };
        let everyone = |word: &str| if who.is_empty() { format!(" {word} everyone") } else { whom(word) };
        match kind {
            Kind::Opens => write!(out, "opens {subject}{}", everyone("to"))?,
            Kind::Closes => write!(out, "closes {subject}{}", everyone("to"))?,
            Kind::Shows => write!(out, "shows {subject}{}", everyone("to"))?,
            Kind::Hides => write!(out, "hides {subject}{}", everyone("from"))?,
            Kind::Moves => write!(out, "moves requests for {subject}")?,
            Kind::Proves => write!(out, "{subject}")?,
            Kind::Shadows => write!(out, "counts otherwise in Shadow: {subject}{}", whom("for"))?,
            Kind::Renames => write!(out, "gives another reason: {subject}{}", whom("for"))?,
        }
        if !what.is_empty() {
            write!(out, " ({})", what.join("; or "))?;
        }
        let route = |decision: &Decision| match &decision.route {
            Some(route) => format!("{route}, {decision}"),
            None => decision.to_string(),
        };
        write!(out, ": {} -> {}", route(before), route(after))
    }
}

/// A request that is decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "at")]
pub enum Witness {
    /// At the sidecar of its destination.
    Inbound(Arriving),
    /// At the sidecar of its source.
    Outbound(Leaving),
    /// At the east-west gateway.
    Gateway(Passing),
    /// Where its source is found out.
    Proof(Evidence),
}

/// A request at the sidecar of its destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arriving {
    /// The namespace of the workload.
    pub namespace: Namespace,
    /// The labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// The cluster that it comes from, and whether that is proven; `None`: nobody knows.
    pub source: Option<(ClusterName, bool)>,
    /// The identity of the peer.
    #[serde(serialize_with = "text")]
    pub identity: Option<Identity>,
    /// The workload's port.
    pub port: Option<u16>,
    /// The method; empty where it is not known.
    pub method: String,
    /// The path; empty where it is not known.
    pub path: String,
    /// The host.
    pub host: Option<String>,
}

/// A request at the sidecar of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaving {
    /// The service that it is for.
    #[serde(serialize_with = "service")]
    pub service: Service,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// The number drawn for it.
    pub draw: u64,
}

/// A connection at the east-west gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passing {
    /// The service that it is for.
    #[serde(serialize_with = "service")]
    pub service: Service,
    /// The port that it is for.
    pub port: Option<u16>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// What a connection and its request show of their source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The issuer of the peer's certificate.
    pub issuer: Option<String>,
    /// The identity in it.
    #[serde(serialize_with = "text")]
    pub identity: Option<Identity>,
    /// The cluster that a token names.
    pub token: Option<String>,
    /// The cluster that the tag names.
    pub tag: Option<String>,
}

fn text<S: serde::Serializer>(identity: &Option<Identity>, to: S) -> Result<S::Ok, S::Error> {
    identity.as_ref().map(ToString::to_string).serialize(to)
}

fn service<S: serde::Serializer>(service: &Service, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(service)
}

/// What becomes otherwise in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Each thing, what requests feel first.
    pub changes: Vec<Change>,
    /// What was not compared.
    pub untold: Vec<String>,
}

/// Compares what the plans of a cluster decide.
pub fn compare(before: &Running, after: &Running) -> Meaning {
    let mut meaning = Meaning::default();
    arriving::compare(before, after, &mut meaning);
    leaving::compare(before, after, &mut meaning);
    passing::compare(before, after, &mut meaning);
    proof::compare(before, after, &mut meaning);
    meaning.changes.sort_by(|one, two| {
        (one.kind, &one.subject, &one.who, &one.what).cmp(&(two.kind, &two.subject, &two.who, &two.what))
    });
    meaning
}

#[cfg(test)]
mod tests;
