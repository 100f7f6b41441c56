//! The walk through the real module in wasmtime: each proxy a VM of its own, with its own cluster's plan.

mod credentials;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use policy::Mesh;
use policy::compile::ClusterPlans;
use policy::compile::Plans;
use policy::name::{ClusterName, Namespace};
use policy::plan::{Plan, PlanError, Role};
use serde_json::{Value, json};

use super::{Journey, NoPath, Outcome, Stop};
use crate::cert::CertError;
use crate::plugin;
use crate::sandbox::{
    Connection, Direction, Headers, HttpOutcome, Module, Node, Plugin, StartError, Tls, Trapped, Vm,
};
use credentials::Credentials;

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
    module: Module,
    mesh: &'m Mesh,
    plans: &'m Plans,
    credentials: Arc<Credentials>,
    vms: BTreeMap<String, Vm>,
}

impl<'m> Offline<'m> {
    /// Makes a CA for every cluster; `plans` are those of the mesh [with that CA](Mesh::with_own_ca).
    pub fn new(
        module: Module,
        mesh: &'m Mesh,
        plans: &'m Plans,
        now: time::OffsetDateTime,
    ) -> Result<Self, OfflineError> {
        let credentials = Arc::new(Credentials::new(mesh, now)?);
        Ok(Self { module, mesh, plans, credentials, vms: BTreeMap::new() })
    }

    /// The same mesh with proxies of its own, for another thread; it shares the certificates.
    #[must_use]
    pub fn fork(&self) -> Self {
        let (module, credentials) = (self.module.clone(), Arc::clone(&self.credentials));
        Self { module, mesh: self.mesh, plans: self.plans, credentials, vms: BTreeMap::new() }
    }

    /// Walks one journey.
    pub fn walk(&mut self, journey: &Journey<'_>) -> Result<Outcome, OfflineError> {
        let (_, there) = journey.plans(self.plans).ok_or(NoPath::Misfit)?;
        let source = SocketAddr::new(journey.address().unwrap_or(SOMEWHERE), 40000);
        let destination = SocketAddr::new(SOMEWHERE, journey.port);
        let headers = match self.depart(journey, &Connection::new(source, destination))? {
            Ok(headers) => headers,
            Err(refused) => return Ok(refused),
        };
        if journey.crosses_networks() {
            let connection = Connection::new(source, destination).with_server_name(journey.sni());
            if let Some(closed) = self.pass(there, &connection)? {
                return Ok(closed);
            }
        }
        let tls = Tls {
            version: "TLSv1.3".to_owned(),
            peer: Some(self.credentials.peer(journey)?),
            ..Tls::default()
        };
        let connection = Connection::new(source, destination)
            .with_server_name(journey.sni())
            .with_tls(tls)
            .with_upstream_cluster(format!("inbound|{}||", journey.port));
        self.arrive(there, journey, &connection, headers)
    }

    /// The source's sidecar: the request as it leaves, or the refusal.
    fn depart(
        &mut self,
        journey: &Journey<'_>,
        connection: &Connection,
    ) -> Result<Result<Headers, Outcome>, OfflineError> {
        let (here, _) = journey.plans(self.plans).ok_or(NoPath::Misfit)?;
        let labels = json!({"app": journey.identity.service_account.as_str()});
        let namespace = &journey.identity.namespace;
        let wanted = format!("cluster={}", journey.destination.name);
        let vm = self.vm(here, Role::Outbound, namespace, &labels)?;
        for _ in 0..DRAWS {
            let stream = vm.http(connection, request(journey))?;
            match stream.request() {
                // A split that is not sticky has drawn another cluster.
                HttpOutcome::Continue(headers) if routed(&headers).is_some_and(|to| to != wanted) => {
                    stream.finish()?;
                }
                HttpOutcome::Continue(headers) => {
                    stream.finish()?;
                    return Ok(Ok(headers));
                }
                HttpOutcome::Reply(reply) => {
                    let status = reply.status;
                    return Ok(Err(told(&stream.finish()?.filter_state, Stop::Source, status)));
                }
                HttpOutcome::Pause | HttpOutcome::Reset => return Err(OfflineError::Hanging(Stop::Source)),
            }
        }
        Err(OfflineError::Elsewhere(journey.destination.name.clone()))
    }

    /// The gateway: `None` when the connection goes through.
    fn pass(
        &mut self,
        there: &ClusterPlans,
        connection: &Connection,
    ) -> Result<Option<Outcome>, OfflineError> {
        let namespace = self.mesh.root_namespace().clone();
        let vm = self.vm(there, Role::Gateway, &namespace, &json!({"istio": "eastwestgateway"}))?;
        let stream = vm.connect(connection)?;
        let closed = stream.outcome().closed;
        let state = stream.finish()?.filter_state;
        // A gateway that closes leaves the client's own sidecar to answer, with 503.
        Ok(closed.then(|| Outcome { source: None, level: None, ..told(&state, Stop::Gateway, 503) }))
    }

    /// The destination's sidecar.
    fn arrive(
        &mut self,
        there: &ClusterPlans,
        journey: &Journey<'_>,
        connection: &Connection,
        headers: Headers,
    ) -> Result<Outcome, OfflineError> {
        let labels = serde_json::to_value(journey.labels(self.mesh)).unwrap_or_default();
        let vm = self.vm(there, Role::Inbound, &journey.service.namespace, &labels)?;
        let stream = vm.http(connection, headers)?;
        let status = match stream.request() {
            HttpOutcome::Continue(_) => {
                stream.respond(Headers::from([(":status", "200")]))?;
                200
            }
            HttpOutcome::Reply(reply) => reply.status,
            HttpOutcome::Pause | HttpOutcome::Reset => return Err(OfflineError::Hanging(Stop::Destination)),
        };
        Ok(told(&stream.finish()?.filter_state, Stop::Destination, status))
    }

    /// A proxy with the plan of its place, started once.
    fn vm(
        &mut self,
        plans: &ClusterPlans,
        role: Role,
        namespace: &Namespace,
        labels: &Value,
    ) -> Result<&Vm, OfflineError> {
        let proxy = format!("{}/{}/{namespace}/{labels}", plans.outbound.home().cluster, role.as_str());
        if self.vms.len() >= PROXIES && !self.vms.contains_key(&proxy) {
            self.vms.clear();
        }
        match self.vms.entry(proxy) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let plan = plans.at(role, namespace);
                let configuration = plugin::configuration(role, &plan)?;
                let plugin = Plugin {
                    name: plugin::name(role),
                    root_id: plugin::name(role),
                    configuration: serde_json::to_vec(&configuration).map_err(PlanError::Malformed)?,
                    ..Plugin::default()
                };
                let vm =
                    self.module.start(&node(role, &plan, namespace, labels), plugin).map_err(|source| {
                        let said: Vec<&str> =
                            source.logs().iter().map(|line| line.message.as_str()).collect();
                        OfflineError::Start {
                            proxy: place.key().clone(),
                            said: said.join("; "),
                            source: source.into(),
                        }
                    })?;
                Ok(place.insert(vm))
            }
        }
    }
}

/// A proxy's node, as Istio's bootstrap describes it.
fn node(role: Role, plan: &Plan, namespace: &Namespace, labels: &Value) -> Node {
    let home = plan.home();
    Node {
        id: format!("sidecar~192.0.2.1~app.{namespace}~{namespace}.svc.cluster.local"),
        cluster: format!("app.{namespace}"),
        metadata: json!({
            "CLUSTER_ID": home.cluster.as_str(),
            "NETWORK": home.network.as_str(),
            "MESH_ID": home.mesh,
            "NAMESPACE": namespace.as_str(),
            "LABELS": labels,
        }),
        listener_direction: match role {
            Role::Inbound => Direction::Inbound,
            Role::Outbound | Role::Upstream | Role::Gateway => Direction::Outbound,
        },
        ..Node::default()
    }
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
fn told(state: &BTreeMap<String, Vec<u8>>, at: Stop, status: u32) -> Outcome {
    let text = |key: &str| {
        let value = state.get(&format!("wasm.isthmus.{key}"))?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    super::outcome(text, at, u16::try_from(status).unwrap_or_default())
}
