//! What the filter is measured against and beside: each a listener of its own and the requests that are sent to it.

use std::net::SocketAddr;
use std::sync::Arc;

use isthmus::plugin;
use policy::compile::ClusterPlans;
use policy::plan::Role;
use rustls::ClientConfig;
use serde_json::Value;

use super::Outcome;
use super::certificates::Certificates;
use super::ground::Ground;
use super::listener::{ECHO, SAW, http, lua, rbac, wasm};
use super::load::{Connection, request};
use super::world::{compiled, own_rules, plans_of, routed, unruled};

/// The tags as the sidecar of a source in c1 sets them.
const TAGS: [(&str, &str); 2] = [("x-source-cluster", "c1"), ("x-source-network", "n1")];
const HOST: &str = "s0.shop0.svc.cluster.local";
/// A host that policies say nothing of.
const QUIET: &str = "s1.shop0.svc.cluster.local";

/// A filter, or none, and a request that passes it.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: String,
    filter: Option<Value>,
    /// The namespace of the client, where there is mutual TLS.
    client: Option<String>,
    host: &'static str,
    /// The number in the request's path and in its user agent.
    number: usize,
    proof: Proof,
}

/// How it shows that the filter does what it is there for.
#[derive(Debug, Clone, Copy)]
enum Proof {
    /// It does nothing.
    None,
    /// The routes see these headers, [`TAGS`] and the route.
    Sets(&'static str),
    /// Another path is refused.
    Refuses,
    /// Another path is refused to a verified source for want of a rule.
    Verifies,
}

impl Variant {
    fn new(name: impl Into<String>, filter: Option<Value>) -> Self {
        Self { name: name.into(), filter, client: None, host: HOST, number: 0, proof: Proof::None }
    }

    /// Those without TLS, as at a sidecar that requests leave by.
    pub(super) fn leaving(ground: &Ground) -> Outcome<Vec<Self>> {
        let plans = routed()?;
        let tags =
            Self::new("outbound_tags", Some(ours(ground, Role::Outbound, "outbound_tags", &unruled()?)?));
        let ours = |name: &str| ours(ground, Role::Outbound, name, &plans);
        let mut all = vec![Self::new("none", None), Self::new("none_again", None)];
        all.push(Self::new("noop", Some(wasm("http", "noop", &ground.noop, ""))));
        all.extend(rbacs(""));
        all.push(Self { proof: Proof::Sets("c0/"), ..Self::new("lua", Some(lua())) });
        all.push(Self { host: QUIET, proof: Proof::Sets("c0/"), ..tags });
        let quiet = Self::new("outbound", Some(ours("outbound")?));
        all.push(Self { host: QUIET, proof: Proof::Sets("c0/"), ..quiet });
        let bound = Self::new("outbound_boundary", Some(ours("outbound_boundary")?));
        all.push(Self { proof: Proof::Sets("c0/network"), ..bound });
        Ok(all)
    }

    /// Those with mutual TLS, as at a sidecar that requests arrive at.
    pub(super) fn arriving(ground: &Ground) -> Outcome<Vec<Self>> {
        let mut all = vec![Self::new("mtls_none", None), Self::new("mtls_none_again", None)];
        all.push(Self::new("mtls_noop", Some(wasm("http", "mtls_noop", &ground.noop, ""))));
        all.extend(rbacs("mtls_"));
        for rules in [10, 1_000, 10_000] {
            all.push(Self::inbound(ground, &format!("inbound{rules}"), (&plans_of(2, rules)?, 9))?);
        }
        for rules in [10, 1_000, 10_000] {
            let (mesh, policies) = own_rules(rules)?;
            let plans = compiled(&mesh, &policies)?;
            all.push(Self::inbound(ground, &format!("inbound_own{rules}"), (&plans, rules - 1))?);
        }
        let client = |variant: Self| Self { client: Some(format!("ns{}", variant.number)), ..variant };
        Ok(all.into_iter().map(client).collect())
    }

    /// The filter at a sidecar that requests arrive at, and a request that a rule of this number lets in.
    pub(super) fn inbound(
        ground: &Ground,
        name: &str,
        (plans, number): (&ClusterPlans, usize),
    ) -> Outcome<Self> {
        let filter = ours(ground, Role::Inbound, name, plans)?;
        let client = Some(format!("ns{number}"));
        Ok(Self { number, client, proof: Proof::Verifies, ..Self::new(name, Some(filter)) })
    }

    /// The module that does nothing, at the same place.
    pub(super) fn noop(ground: &Ground) -> Self {
        let filter = wasm("http", "noop", &ground.noop, "");
        Self { client: Some("ns0".to_owned()), ..Self::new("noop", Some(filter)) }
    }

    /// Its listener.
    pub(super) fn listener(&self, at: SocketAddr, certificates: &Certificates) -> Value {
        http(at, self.client.as_ref().map(|_| certificates), self.filter.as_ref())
    }

    /// Its connections, when one of them has shown that the filter is there.
    pub(super) fn connect(&self, at: SocketAddr, certificates: &Certificates) -> Outcome<Vec<Connection>> {
        let config = match &self.client {
            Some(namespace) => Some(certificates.client(namespace)?),
            None => None,
        };
        self.prove(at, config.as_ref()).map_err(|error| format!("{}: {error}", self.name))?;
        Connection::open_all(at, config.as_ref())
    }

    fn prove(&self, at: SocketAddr, config: Option<&Arc<ClientConfig>>) -> Outcome<()> {
        let mut connection = Connection::open(at, config)?;
        let mut ask = |path: &str, status: u16, said: &[&str]| -> Outcome<()> {
            let answer = connection.ask(&self.request_for(path))?;
            let is_right = answer.status == status && said.iter().all(|part| answer.text.contains(part));
            let wrong = || format!("{path} should get {status} with {said:?}, and got {}", answer.text);
            if is_right { Ok(()) } else { Err(wrong().into()) }
        };
        match self.proof {
            Proof::None => {}
            Proof::Sets(saw) => ask(ECHO, 200, &[&format!("{SAW}: {saw}\r\n")])?,
            Proof::Refuses => ask("/other", 403, &[])?,
            Proof::Verifies => {
                ask("/other", 403, &["no-rule-matched", "\"cluster\":\"c1\"", "verified by certificate"])?;
                ask(&self.path(), 200, &["x-destination-cluster: c0\r\n"])?;
            }
        }
        ask(&self.path(), 200, &[])
    }

    /// The request that passes.
    pub(super) fn request(&self) -> Vec<u8> {
        self.request_for(&self.path())
    }

    fn path(&self) -> String {
        format!("/v{}/x", self.number)
    }

    fn request_for(&self, path: &str) -> Vec<u8> {
        // An application says nothing of its source; its sidecar does.
        let tags: &[(&str, &str)] = if self.client.is_some() { &TAGS } else { &[] };
        request(self.host, path, &format!("client-{}", self.number), tags)
    }
}

fn ours(ground: &Ground, role: Role, name: &str, plans: &ClusterPlans) -> Outcome<Value> {
    let configuration = plugin::configuration(role, &plans.at(role, &"shop0".parse()?))?;
    Ok(wasm("http", name, &ground.isthmus, &serde_json::to_string(&configuration)?))
}

fn rbacs(prefix: &str) -> impl Iterator<Item = Variant> {
    [1, 100, 1_000].into_iter().map(move |policies| Variant {
        number: policies - 1,
        proof: Proof::Refuses,
        ..Variant::new(format!("{prefix}rbac{policies}"), Some(rbac(policies)))
    })
}
