//! A plugin's configuration, checked against the proxy that it arrived in.

use std::cell::{Cell, RefCell};
use std::fmt::{Display, Write as _};
use std::rc::Rc;

use policy::Guard;
use policy::map::Map;
use policy::name::{Identity, Namespace, Service};
use policy::plan::{Configuration, GatewayPlan, Home, InboundPlan, OutboundPlan, Plan, PlanError, Role};

use crate::host::{Host, Level};
use crate::peer::Peers;
use crate::seen::text;
use crate::tell::Teller;
use crate::token::{Signer, SigningKey, Verifier};
use crate::trial::Trial;

/// What a plugin runs on until the next configuration is taken.
#[derive(Debug)]
pub struct Settings {
    /// Where the plugin stands, and what it decides by.
    pub place: Place,
    /// The proxy that it stands in.
    pub home: Home,
    /// Whom it tells.
    pub teller: Teller,
    /// A plan that is tried beside the one that it decides by.
    pub trial: Option<Trial>,
}

/// One of the filter's places, with all that it needs there.
#[derive(Debug)]
pub enum Place {
    /// The proxy that a request leaves by.
    Outbound(Outward),
    /// The sidecar that a request arrives at.
    Inbound(Inward),
    /// Behind the load balancer of the proxy that a request leaves by.
    Upstream {
        /// Where requests may go.
        plan: OutboundPlan,
    },
    /// The east-west gateway.
    Gateway {
        /// Who may see what.
        plan: GatewayPlan,
    },
    /// A sidecar whose namespace has a plan of its own, in a plugin of its own that stands before this one.
    Apart(Apart),
}

/// What is left to another plugin. Proxies take new configurations of two plugins in either order, so the other one
/// may not be there yet, and nothing may pass unjudged for that.
#[derive(Debug)]
pub struct Apart {
    /// What judged requests until now, until the other plugin is seen to.
    before: RefCell<Option<Rc<Settings>>>,
}

impl Apart {
    fn new(before: &[Rc<Settings>]) -> Self {
        let judging = |settings: &Rc<Settings>| match &settings.place {
            Place::Inbound(_) => Some(Rc::clone(settings)),
            Place::Apart(apart) => apart.before(),
            Place::Outbound(_) | Place::Upstream { .. } | Place::Gateway { .. } => None,
        };
        Self { before: RefCell::new(before.iter().rev().find_map(judging)) }
    }

    /// What is to judge a request that the other plugin has not judged, if anything can.
    pub fn before(&self) -> Option<Rc<Settings>> {
        self.before.try_borrow().ok()?.clone()
    }

    /// The other plugin judges: what came before it is over.
    pub fn hand_over(&self) {
        if let Ok(mut before) = self.before.try_borrow_mut() {
            *before = None;
        }
    }
}

/// A proxy that requests leave by.
#[derive(Debug)]
pub struct Outward {
    /// Where requests may go.
    pub plan: OutboundPlan,
    /// For splits that are not sticky.
    pub draws: Draws,
    /// Which proxy it is.
    pub door: Door,
    /// What signs requests, where the mesh has tokens and this proxy a key.
    pub signer: Option<Signer>,
    /// The namespace of its workload: hosts are completed with it.
    namespace: Namespace,
    /// The services that hosts name, as far as they were asked for.
    services: RefCell<Services>,
}

/// The service that a host names, if it names one.
type Services = Map<Box<[u8]>, Option<Rc<Service>>>;

/// A sidecar that requests arrive at.
#[derive(Debug)]
pub struct Inward {
    /// What a source is told by.
    pub plan: InboundPlan,
    /// What requests to this proxy's own workload are judged by.
    pub guard: Guard,
    /// The connections and certificates that were read.
    pub peers: Rc<Peers>,
    /// What checks tokens, where the mesh has them.
    pub verifier: Option<Verifier>,
    /// Whether the workload's port is asked for, by it or by what is tried beside it.
    pub asks_port: bool,
}

impl Inward {
    fn new(
        plan: InboundPlan,
        (guard, namespace): (Guard, Namespace),
        (before, trial): (&[Rc<Settings>], Option<&Trial>),
        host: &impl Host,
    ) -> Self {
        let asks_port = guard.needs().port || trial.is_some_and(Trial::asks_port);
        let alike = |settings: &Rc<Settings>| {
            let Place::Inbound(old) = &settings.place else { return None };
            let alike = old.asks_port == asks_port && old.plan.knows_sources_as(&plan);
            alike.then(|| Rc::clone(&old.peers))
        };
        // What was read of connections stays true as long as it means the same.
        let peers = before.iter().find_map(alike).unwrap_or_else(|| Rc::new(Peers::new(host)));
        peers.declare(host);
        let verifier = plan.tokens().map(|keys| Verifier::new(keys.clone(), namespace));
        Self { plan, guard, peers, verifier, asks_port }
    }
}

/// Where requests come from before they leave: Istio gives one plugin to sidecars and gateways alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// From the proxy's own application.
    Sidecar,
    /// From outside the mesh.
    Ingress,
    /// From the mesh, to the outside.
    Egress,
}

impl Outward {
    fn new(plan: OutboundPlan, namespace: Namespace, host: &impl Host) -> Self {
        let draws = Draws::from(host.now());
        let signer = signer(&plan, &namespace, host);
        Self { plan, draws, door: Door::of(host), signer, namespace, services: RefCell::default() }
    }

    /// Whether no header of a request changes what is done with it. A token that comes from the application is then
    /// left: it names an identity, which only that identity's own certificate can use.
    pub fn reads_nothing(&self) -> bool {
        self.plan.is_empty() && self.signer.is_none() && self.door == Door::Sidecar
    }

    /// The service that a request is for: the one that its host names, else the one that its route leads to.
    pub fn service(&self, authority: Option<&[u8]>, host: &impl Host) -> Option<Rc<Service>> {
        self.named(authority?).or_else(|| service_of_cluster(host).map(Rc::new))
    }

    fn named(&self, authority: &[u8]) -> Option<Rc<Service>> {
        /// More hosts, or longer ones, are not remembered: an application may ask for any.
        const REMEMBERED: usize = 1024;
        const LONG: usize = 256;
        if let Some(known) = self.services.try_borrow().ok()?.get(authority) {
            return known.clone();
        }
        let service = text(authority).and_then(|host| Service::from_authority(host, &self.namespace).ok());
        let service = service.map(Rc::new);
        let mut known = self.services.try_borrow_mut().ok()?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        if authority.len() <= LONG {
            known.insert(authority.into(), service.clone());
        }
        service
    }
}

/// What signs the requests of this proxy's workload. Its key is in the node's metadata, as a plan is no place for one;
/// without it the proxy's requests go unsigned, which is told and stops nothing.
fn signer(plan: &OutboundPlan, namespace: &Namespace, host: &impl Host) -> Option<Signer> {
    let tokens = plan.tokens()?;
    let identity = || {
        let service_account = metadata(host, "SERVICE_ACCOUNT")?.parse().ok()?;
        Some(Identity {
            trust_domain: tokens.trust_domain.clone(),
            namespace: namespace.clone(),
            service_account,
        })
    };
    let key = match metadata(host, "ISTHMUS_TOKEN_KEY").map(|key| key.parse::<SigningKey>()) {
        Some(Ok(key)) => key,
        Some(Err(why)) => {
            host.log(Level::Warn, &format!("requests go unsigned: {why}"));
            return None;
        }
        None => {
            host.log(
                Level::Info,
                "requests go unsigned: this proxy's node metadata has no ISTHMUS_TOKEN_KEY",
            );
            return None;
        }
    };
    Some(Signer::new(key, plan.home().cluster.clone(), identity()?, tokens.life))
}

/// The service that the chosen route leads to, from the name that istiod gives its cluster:
/// `outbound|PORT|SUBSET|HOST`.
pub fn service_of_cluster(host: &impl Host) -> Option<Service> {
    let cluster = ["xds\0cluster_name", "cluster_name"].into_iter().find_map(|path| host.property(path));
    let mut parts = cluster.and_then(text)?.split('|');
    (parts.next() == Some("outbound")).then_some(())?;
    Service::from_host(parts.nth(2)?).ok()
}

impl Door {
    /// Istio begins the id of a gateway's node with `router~`, and labels an egress gateway `istio: egressgateway`.
    fn of(host: &impl Host) -> Self {
        if !node(host, "id").is_some_and(|id| id.starts_with("router~")) {
            return Self::Sidecar;
        }
        match metadata(host, "LABELS\0istio").as_deref() {
            Some("egressgateway") => Self::Egress,
            Some(_) | None => Self::Ingress,
        }
    }
}

/// Numbers drawn one after the other (splitmix64): even enough for shares, and no secret.
#[derive(Debug)]
pub struct Draws(Cell<u64>);

impl Draws {
    /// Draws that begin somewhere.
    pub fn from(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Why a configuration is refused. Envoy then keeps the one before.
#[derive(Debug)]
pub enum Refusal {
    /// It is not a configuration, or its plan is not one.
    Unreadable(PlanError),
    /// The proxy does not say what it must.
    Silent {
        /// The key of the node's metadata.
        key: &'static str,
    },
    /// The plan is for somewhere else.
    Elsewhere {
        /// The key of the node's metadata.
        key: &'static str,
        /// What the plan says.
        plan: String,
        /// What the proxy says of itself.
        proxy: String,
    },
}

impl Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(PlanError::Malformed(why)) => write!(out, "this is not a plan: {why}"),
            Self::Unreadable(PlanError::Garbled(why)) => write!(out, "this is not a plan: {why}"),
            Self::Unreadable(error) => write!(out, "{error}"),
            Self::Silent { key } => write!(out, "this proxy's node metadata has no usable {key}"),
            Self::Elsewhere { key, plan, proxy } => {
                write!(out, "the plan is for {key} {plan:?}, and this proxy is of {proxy:?}")
            }
        }
    }
}

impl Settings {
    /// Reads a configuration and checks it against the proxy's own metadata.
    ///
    /// `before` are those that hold until then: what they know of connections need not be asked for again.
    pub fn read(json: impl AsRef<[u8]>, before: &[Rc<Self>], host: &impl Host) -> Result<Self, Refusal> {
        let read = Configuration::read(json.as_ref());
        // Its memory is needed for what is made of it: a module never gives any back.
        drop(json);
        let Configuration { role, digest, plan, trial } = read.map_err(Refusal::Unreadable)?;
        let home = plan.home().clone();
        let cluster = metadata(host, "CLUSTER_ID").ok_or(Refusal::Silent { key: "CLUSTER_ID" })?;
        let network = metadata(host, "NETWORK");
        for home in [&home].into_iter().chain(trial.as_ref().map(|trial| trial.plan.home())) {
            is_here(home, &cluster, network.as_deref())?;
        }
        let namespace: Namespace = metadata(host, "NAMESPACE")
            .and_then(|namespace| namespace.parse().ok())
            .ok_or(Refusal::Silent { key: "NAMESPACE" })?;
        let teller = Teller::new(role);
        let on_trial = trial.as_ref().map(|trial| trial.digest.clone());
        let trial = trial
            .and_then(|trial| Trial::new(role, trial.plan, &namespace, |plan| guard(plan, &namespace, host)));
        let place = match plan {
            Plan::Outbound(plan) if role == Role::Upstream => Place::Upstream { plan },
            Plan::Outbound(plan) => Place::Outbound(Outward::new(plan, namespace, host)),
            Plan::Inbound(plan) if plan.leaves(&namespace) => Place::Apart(Apart::new(before)),
            Plan::Inbound(plan) => {
                let guard = guard(&plan, &namespace, host);
                Place::Inbound(Inward::new(plan, (guard, namespace), (before, trial.as_ref()), host))
            }
            Plan::Gateway(plan) => Place::Gateway { plan },
        };
        // What is told of is the plan that judges here, or is tried: there may be another plugin that does.
        if !matches!(place, Place::Apart(_)) {
            teller.plan(host, &digest);
            if trial.is_some() == on_trial.is_some() && role != Role::Upstream {
                teller.trial(host, on_trial.as_deref());
            }
        }
        Ok(Self { place, home, teller, trial })
    }
}

/// Whether a plan is for a proxy of this cluster and network.
fn is_here(home: &Home, cluster: &str, network: Option<&str>) -> Result<(), Refusal> {
    let elsewhere = |key, plan: &str, proxy: &str| {
        Err(Refusal::Elsewhere { key, plan: plan.to_owned(), proxy: proxy.to_owned() })
    };
    if cluster != home.cluster.as_str() {
        return elsewhere("CLUSTER_ID", home.cluster.as_str(), cluster);
    }
    match network.filter(|network| *network != home.network.as_str()) {
        Some(network) => elsewhere("NETWORK", home.network.as_str(), network),
        None => Ok(()),
    }
}

/// What a plan says of this proxy's own workload.
fn guard(plan: &InboundPlan, namespace: &Namespace, host: &impl Host) -> Guard {
    let mut labels = Map::default();
    for label in &plan.labels() {
        if let Some(value) = metadata(host, &format!("LABELS\0{label}")) {
            labels.insert((*label).to_owned(), value);
        }
    }
    Guard::new(plan, namespace, &labels)
}

/// A text of the node's metadata.
fn metadata(host: &impl Host, key: &str) -> Option<String> {
    node(host, &format!("metadata\0{key}"))
}

/// A text of the node. Envoy 1.33 and later have it under `xds` only, those before under `node` only.
fn node(host: &impl Host, key: &str) -> Option<String> {
    let mut path = String::with_capacity(64);
    ["xds\0node", "node"].into_iter().find_map(|root| {
        path.clear();
        let _infallible = write!(path, "{root}\0{key}");
        host.property(&path).and_then(text).map(str::to_owned)
    })
}
