//! The walk through the real module in wasmtime: each proxy a VM of its own, with its own cluster's plan.

mod credentials;
mod proxy;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use policy::Mesh;
use policy::compile::ClusterPlans;
use policy::compile::Plans;
use policy::name::{ClusterName, ServiceAccount};
use policy::plan::{PlanError, Role};
use serde_json::{Value, json};

use super::{Journey, NoPath, Outcome, Stop, Tags};
use crate::case::{Call, Way};
use crate::cert::{CertError, TokenKey};
use crate::plugin;
use crate::sandbox::{
    Connection, FilterState, Headers, HttpOutcome, HttpStream, Module, Plugin, StartError, Tls, Trapped, Vm,
};
use credentials::Credentials;
use proxy::{Proxy, node, workload};

/// What peers speak.
const TLS: &str = "TLSv1.3";
/// How often a split may draw another cluster than the one that is walked to: more than the smallest share needs.
const DRAWS: u32 = 5_000;
/// How many proxies run at once: each holds memory of its own, and a suite may speak of thousands.
const PROXIES: usize = 256;
/// The address of a peer whose cluster's addresses the mesh does not say.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Why a walk through the module came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The plugin would not start.
    #[error("the filter of {proxy} would not start: {said}")]
    Start {
        /// Where.
        proxy: String,
        /// What it logged.
        said: String,
        /// How it failed.
        source: Box<StartError>,
    },
    /// The module trapped. In Envoy that costs every request of the worker.
    #[error("the module trapped")]
    Trapped(#[from] Trapped),
    /// A certificate could not be made.
    #[error("cannot make certificates for the peers")]
    Certificate(#[from] CertError),
    /// A certificate that was just made cannot be read.
    #[error("cannot read a certificate that was just made")]
    Pem,
    /// A split never drew the cluster that is walked to.
    #[error("{DRAWS} requests all went elsewhere than to {0}")]
    Elsewhere(ClusterName),
    /// The plan cannot be written.
    #[error("cannot write the plan")]
    Plan(#[from] PlanError),
    /// The case cannot be walked.
    #[error(transparent)]
    NoPath(#[from] NoPath),
    /// The filter paused a request or reset it; it never should.
    #[error("the filter left the request hanging at the {0}")]
    Hanging(Stop),
}

/// The proxies of a mesh, as many as were needed so far.
#[derive(Debug)]
pub struct Offline<'m> {
    ground: Arc<Ground<'m>>,
    vms: BTreeMap<String, Rc<Vm>>,
}

/// What walks are made of, for any number of threads: module, plans, certificates and keys.
#[derive(Debug)]
pub struct Ground<'m> {
    module: Module,
    mesh: &'m Mesh,
    plans: &'m Plans,
    credentials: Credentials,
    keys: Option<&'m BTreeMap<ClusterName, TokenKey>>,
    now: Duration,
}

impl<'m> Ground<'m> {
    /// Makes a CA for every cluster; `plans` are those of the mesh [with that CA](Mesh::with_own_ca).
    pub fn new(
        module: Module,
        mesh: &'m Mesh,
        plans: &'m Plans,
        now: time::OffsetDateTime,
    ) -> Result<Self, OfflineError> {
        let since = Duration::from_secs(u64::try_from(now.unix_timestamp()).unwrap_or_default());
        let credentials = Credentials::new(mesh, now)?;
        Ok(Self { module, mesh, plans, credentials, keys: None, now: since })
    }

    /// The same with keys that sidecars sign tokens with.
    #[must_use]
    pub fn with_keys(self, keys: &'m BTreeMap<ClusterName, TokenKey>) -> Self {
        Self { keys: Some(keys), ..self }
    }
}

/// A proxy, and the connection that a request comes to it by.
type Door = (Rc<Vm>, Connection);

impl<'m> Offline<'m> {
    /// Proxies of their own on this ground.
    pub fn on(ground: Arc<Ground<'m>>) -> Self {
        Self { ground, vms: BTreeMap::new() }
    }

    /// Forgets all proxies.
    pub fn restart(&mut self) {
        self.vms.clear();
    }

    /// Walks one journey.
    pub fn walk(&mut self, journey: &Journey<'_>) -> Result<Outcome, OfflineError> {
        let (_, there) = journey.plans(self.ground.plans).ok_or(NoPath::Misfit)?;
        let doors = self.doors(journey)?;
        let mut streams = Vec::new();
        let mut headers = request(journey);
        let mut shadow = None;
        for (vm, connection) in &doors {
            match depart(journey, vm, connection, &headers)? {
                Ok((stream, passed)) => {
                    headers = passed;
                    shadow = shadow.or_else(|| dissent(&stream.filter_state()));
                    streams.push(stream);
                }
                Err(refused) => return Ok(Outcome { shadow: shadow.or(refused.shadow.clone()), ..refused }),
            }
        }
        if journey.crosses_networks() {
            let (closed, would) = self.pass(there, journey)?;
            shadow = shadow.or(would);
            if let Some(closed) = closed {
                return Ok(Outcome { shadow, ..closed });
            }
        }
        let (outcome, mut answer) = self.arrive(there, journey, headers)?;
        let mut breach = None;
        while let Some(stream) = streams.pop() {
            if let HttpOutcome::Continue(passed) = stream.respond(answer.clone())? {
                answer = passed;
            }
            breach = breach.or_else(|| text(&stream.filter_state(), "breach"));
            stream.finish()?;
        }
        Ok(Outcome { shadow: shadow.or(outcome.shadow.clone()), breach, ..outcome })
    }

    /// The proxies that a request leaves by.
    fn doors(&mut self, journey: &Journey<'_>) -> Result<Vec<Door>, OfflineError> {
        let (here, _) = journey.plans(self.ground.plans).ok_or(NoPath::Misfit)?;
        let Call { way, from, .. } = journey.call;
        let leads = |connection: Connection| {
            connection
                .with_upstream_cluster(format!("outbound|{}||{}", journey.port, journey.service.host()))
                .with_upstream_host_metadata(workload(journey))
        };
        let plain = leads(Connection::new(self.source(journey), SocketAddr::new(SOMEWHERE, journey.port)));
        let own = Proxy { namespace: &from.namespace, account: Some(&from.service_account), gateway: None };
        let gateway =
            |name| Proxy { gateway: Some(name), account: Some(&journey.identity.service_account), ..own };
        let signs = journey.is_signed();
        Ok(match way {
            Way::Sidecar => vec![(self.outbound(here, own, signs)?, plain)],
            Way::Ingress => vec![(self.outbound(here, gateway("ingressgateway"), signs)?, plain)],
            Way::Egress => {
                let peer = self.ground.credentials.workload(journey)?;
                let tls = Tls { version: TLS.to_owned(), peer: Some(peer), ..Tls::default() };
                let shown = leads(plain.clone().with_tls(tls));
                let plain = plain.with_upstream_host_metadata(proxy::egress(journey));
                let namespace = &journey.identity.namespace;
                let gateway = Proxy { namespace, ..gateway("egressgateway") };
                vec![(self.outbound(here, own, false)?, plain), (self.outbound(here, gateway, signs)?, shown)]
            }
        })
    }

    fn source(&self, journey: &Journey<'_>) -> SocketAddr {
        SocketAddr::new(journey.address().unwrap_or(SOMEWHERE), 40000)
    }

    /// A proxy that requests leave by; with a key to sign them, if it has to.
    fn outbound(
        &mut self,
        plans: &ClusterPlans,
        proxy: Proxy<'_>,
        signs: bool,
    ) -> Result<Rc<Vm>, OfflineError> {
        let account = proxy.account.filter(|_| signs);
        let labels = proxy.gateway.map_or_else(|| json!({}), |gateway| json!({"istio": gateway}));
        let home = &plans.outbound.home().cluster;
        let key = self.ground.keys.filter(|_| signs).and_then(|keys| keys.get(home)).map(TokenKey::secret);
        self.vm(plans, Role::Outbound, &Proxy { account, ..proxy }, (&labels, key))
    }

    /// The gateway: the outcome, if it closes; and what the policies in shadow would do.
    fn pass(&mut self, there: &ClusterPlans, journey: &Journey<'_>) -> Result<Passed, OfflineError> {
        let namespace = self.ground.mesh.root_namespace();
        let gateway = Proxy { namespace, account: None, gateway: Some("eastwestgateway") };
        let labels = json!({"istio": "eastwestgateway"});
        let destination = SocketAddr::new(SOMEWHERE, journey.port);
        let connection = Connection::new(self.source(journey), destination).with_server_name(journey.sni());
        let vm = self.vm(there, Role::Gateway, &gateway, (&labels, None))?;
        let stream = vm.connect(&connection)?;
        let closed = stream.outcome().closed;
        let state = stream.finish()?.filter_state;
        // A gateway that closes leaves the client's own sidecar to answer, with 503.
        let refused = closed.then(|| told(&state, Stop::Gateway, 503));
        Ok((refused, dissent(&state)))
    }

    /// The destination's sidecar: what comes of the request, and the answer as it leaves.
    fn arrive(
        &mut self,
        there: &ClusterPlans,
        journey: &Journey<'_>,
        headers: Headers,
    ) -> Result<(Outcome, Headers), OfflineError> {
        let mut connection = Connection::new(self.source(journey), SocketAddr::new(SOMEWHERE, journey.port))
            .with_server_name(journey.sni())
            .with_upstream_cluster(format!("inbound|{}||", journey.port));
        if let Some(peer) = self.ground.credentials.peer(journey)? {
            connection =
                connection.with_tls(Tls { version: TLS.to_owned(), peer: Some(peer), ..Tls::default() });
        }
        let labels = serde_json::to_value(journey.labels(self.ground.mesh)).unwrap_or_default();
        let proxy = Proxy { namespace: &journey.service.namespace, account: None, gateway: None };
        let vm = self.vm(there, Role::Inbound, &proxy, (&labels, None))?;
        let stream = vm.http(&connection, headers)?;
        let (status, tags, answer) = match stream.request() {
            HttpOutcome::Continue(seen) => {
                let answer = stream.respond(Headers::from([(":status", "200")]))?;
                let tag = |name: &str| seen.text(name).map(str::to_owned);
                let tags = Tags { cluster: tag("x-source-cluster"), network: tag("x-source-network") };
                (200, Some(tags), answer.continued().cloned().unwrap_or_default())
            }
            HttpOutcome::Reply(reply) => (reply.status, None, reply.headers),
            HttpOutcome::Pause | HttpOutcome::Reset => return Err(OfflineError::Hanging(Stop::Destination)),
        };
        let served_by = answer.text("x-destination-cluster").map(str::to_owned);
        let outcome = told(&stream.finish()?.filter_state, Stop::Destination, status);
        Ok((Outcome { tags, served_by, ..outcome }, answer))
    }

    /// A proxy with the plan of its place, started once.
    fn vm(
        &mut self,
        plans: &ClusterPlans,
        role: Role,
        proxy: &Proxy<'_>,
        (labels, key): (&Value, Option<String>),
    ) -> Result<Rc<Vm>, OfflineError> {
        let signer = proxy.account.filter(|_| key.is_some());
        let signer = signer.map_or("", ServiceAccount::as_str);
        let Proxy { namespace, gateway, .. } = proxy;
        let home = &plans.outbound.home().cluster;
        let name = format!("{home}/{}/{namespace}/{gateway:?}/{signer}/{labels}", role.as_str());
        if let Some(known) = self.vms.get(&name) {
            return Ok(Rc::clone(known));
        }
        if self.vms.len() >= PROXIES {
            self.vms.clear();
        }
        let plan = plans.at(role, namespace);
        let configuration = plugin::configuration(role, &plan)?;
        let plugin = Plugin {
            name: plugin::name(role),
            root_id: plugin::name(role),
            configuration: serde_json::to_vec(&configuration).map_err(PlanError::Malformed)?,
            ..Plugin::default()
        };
        let node = node(role, &plan, proxy, (labels, key));
        let vm = self.ground.module.start_untried(&node, plugin).map_err(|source| {
            let said: Vec<&str> = source.logs().iter().map(|line| line.message.as_str()).collect();
            OfflineError::Start { proxy: name.clone(), said: said.join("; "), source: Box::new(source) }
        })?;
        vm.set_time(self.ground.now);
        let vm = Rc::new(vm);
        self.vms.insert(name, Rc::clone(&vm));
        Ok(vm)
    }
}

/// What a gateway makes of a connection: the outcome, if it closes; and what the policies in shadow would do.
type Passed = (Option<Outcome>, Option<(String, String)>);

/// A proxy that a request leaves by: the stream with the request as it goes on, or the refusal.
fn depart<'v>(
    journey: &Journey<'_>,
    vm: &'v Vm,
    connection: &Connection,
    headers: &Headers,
) -> Result<Result<(HttpStream<'v>, Headers), Outcome>, OfflineError> {
    let wanted = format!("cluster={}", journey.destination.name);
    let misrouted = journey.call.misrouted;
    for _ in 0..DRAWS {
        let stream = vm.http(connection, headers.clone())?;
        match stream.request() {
            // A split that is not sticky has drawn another cluster.
            HttpOutcome::Continue(passed) if !misrouted && routed(&passed).is_some_and(|to| to != wanted) => {
                stream.finish()?;
            }
            HttpOutcome::Continue(passed) => return Ok(Ok((stream, passed))),
            HttpOutcome::Reply(reply) => {
                return Ok(Err(told(&stream.finish()?.filter_state, Stop::Source, reply.status)));
            }
            HttpOutcome::Pause | HttpOutcome::Reset => return Err(OfflineError::Hanging(Stop::Source)),
        }
    }
    Err(OfflineError::Elsewhere(journey.destination.name.clone()))
}

/// The cluster that the filter sends a request to, as its routes read it.
fn routed(headers: &Headers) -> Option<&str> {
    headers.text("x-isthmus-route").filter(|route| route.starts_with("cluster="))
}

/// The request as the application sends it.
fn request(journey: &Journey<'_>) -> Headers {
    let request = &journey.call.request;
    let mut headers = Headers::from([
        (":authority", request.host.value.as_str()),
        (":method", request.method.as_str()),
        (":path", request.path.as_str()),
        (":scheme", "http"),
    ]);
    for (name, value) in &request.headers {
        headers.add(name.as_str(), value.as_str());
    }
    headers
}

/// What the filter left in the filter state, which is what Envoy's access log has.
fn told(state: &FilterState, at: Stop, status: u32) -> Outcome {
    super::outcome(|key| text(state, key), at, u16::try_from(status).unwrap_or_default())
}

fn dissent(state: &FilterState) -> Option<(String, String)> {
    super::dissent(|key| text(state, key))
}

fn text(state: &FilterState, key: &str) -> Option<String> {
    let value = state.value(&format!("wasm.isthmus.{key}"))?;
    Some(String::from_utf8_lossy(value).into_owned())
}
