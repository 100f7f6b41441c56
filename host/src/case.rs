//! Cases: requests with the verdict that each should get, in files beside the policies.

mod expect;
mod fit;
mod read;

pub use expect::{Expectation, ShadowWanted, TagsWanted};

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use policy::Mesh;
use policy::document::Located;
use policy::evaluate::{self, Departure, Leaving};
use policy::finding::{Finding, Place};
use policy::name::{ClusterName, Identity, Namespace, Service, ServiceAccount};
use policy::plan::OutboundPlan;

use crate::lab::{Client, Door};
use crate::stage;

/// A file of cases.
#[derive(Debug, Clone)]
pub struct Suite {
    /// What the cases are about.
    pub name: String,
    /// The mesh's file, relative to this one.
    pub mesh: PathBuf,
    /// The policies' files and directories, relative to this one.
    pub policies: Vec<PathBuf>,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// One request and what should come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name; no other case of the file has it.
    pub name: Located<String>,
    /// What is sent, and by whom.
    pub call: Call,
    /// What should come of it.
    pub expect: Expectation,
}

/// One request of one sender.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who sends the request.
    pub from: Origin,
    /// How it leaves, or enters the mesh.
    pub way: Way,
    /// The cluster that answers; `None`: whichever could, and all that could must agree.
    pub to: Option<Located<ClusterName>>,
    /// Whether it goes there whatever the routes say, as it would where they are wrong.
    pub misrouted: bool,
    /// The request.
    pub request: Request,
    /// How well the destination's proxy can know where it is from.
    pub level: Level,
    /// Where that is said.
    pub level_at: Option<Place>,
}

/// The proxies that a request passes before it goes to another cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// The sidecar of the application that sends it.
    #[default]
    Sidecar,
    /// The ingress gateway of a cluster: it comes from outside the mesh.
    Ingress,
    /// The sidecar, and the egress gateway of its cluster.
    Egress,
}

/// What the destination's proxy has to know the source by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Level {
    /// Its Envoy gives the peer's certificate.
    #[default]
    Verified,
    /// It does not; the trust domain of the peer's identity is of one cluster alone.
    TrustDomain,
    /// It does not; the request carries a token of its cluster.
    Token,
    /// It does not, and the tag is all there is.
    Claimed,
    /// There is no certificate.
    Unknown,
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The cluster of the workload.
    pub cluster: Located<ClusterName>,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its service account.
    pub service_account: ServiceAccount,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// The authority, in any form that Kubernetes DNS completes.
    pub host: Located<String>,
    /// The service that routes lead to, where the host is not its name.
    pub service: Option<Located<String>>,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Further headers, such as forged tags.
    pub headers: BTreeMap<String, String>,
}

/// As `isthmus explain` would be asked of it.
impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, way, to, misrouted, request, level, level_at: _ } = self;
        let Request { host, service, method, path, headers } = request;
        write!(out, "{method} {}{path}", host.value)?;
        if let Some(service) = service {
            write!(out, " (of {})", service.value)?;
        }
        match way {
            Way::Ingress => write!(out, " from outside, into {}", from.cluster.value)?,
            Way::Sidecar | Way::Egress => {
                write!(out, " from {}/{}/{}", from.cluster.value, from.namespace, from.service_account)?;
            }
        }
        if *way == Way::Egress {
            out.write_str(" via egress")?;
        }
        if let Some(to) = to {
            write!(out, "{} to {}", if *misrouted { ", misrouted" } else { "" }, to.value)?;
        }
        if *level != Level::default() {
            write!(out, ", known as {}", level.word())?;
        }
        headers.iter().try_for_each(|(name, value)| write!(out, " -H {:?}", format!("{name}: {value}")))
    }
}

impl Level {
    /// Every level, by the word that files and flags say it with.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("verified", Self::Verified),
        ("trust-domain", Self::TrustDomain),
        ("token", Self::Token),
        ("claimed", Self::Claimed),
        ("unknown", Self::Unknown),
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, level)| *level == self).map_or("", |(word, _)| word)
    }
}

impl Suite {
    /// Reads a file of cases; without errors among the findings there is a suite.
    pub fn read(file: &str, text: &str) -> (Option<Self>, Vec<Finding>) {
        read::suite(file, text)
    }

    /// The mesh and the policies of a text, whatever else is wrong with it.
    pub fn speaks_of(text: &str) -> Vec<PathBuf> {
        read::speaks_of(text)
    }

    /// Everyone who sends a request, for the lab.
    pub fn clients(&self) -> impl Iterator<Item = Client> {
        self.cases.iter().map(|case| case.call.client())
    }

    /// What does not fit the mesh that the cases are about.
    pub fn check(&self, mesh: &Mesh) -> Vec<Finding> {
        fit::check(self, mesh)
    }
}

impl Call {
    /// Who sends it, for the lab.
    pub fn client(&self) -> Client {
        let Origin { cluster, namespace, service_account } = &self.from;
        let mut client = stage::client(&cluster.value, namespace, service_account);
        if self.way == Way::Ingress {
            client.manner.door = Door::Ingress;
        }
        client
    }

    /// The service that the request is for.
    pub fn service(&self) -> Option<Service> {
        let named = self.request.service.as_ref().unwrap_or(&self.request.host);
        Service::from_authority(&named.value, &self.from.namespace).ok()
    }

    /// What its sender's sidecar decides by `plan`, with this draw.
    pub fn departure<'p>(&self, plan: &'p OutboundPlan, service: &Service, draw: u64) -> Departure<'p> {
        let header = |name: &str| self.request.headers.get(name).cloned();
        evaluate::outbound(plan, service, &Leaving { header: &header, draw })
    }

    /// The identity that the destination is shown: the sender's, or that of the gateway that it leaves by.
    pub fn identity(&self, mesh: &Mesh) -> Identity {
        let cluster = mesh.cluster(&self.from.cluster.value);
        let (namespace, service_account) = match self.way {
            Way::Sidecar | Way::Ingress => (self.from.namespace.clone(), self.from.service_account.clone()),
            Way::Egress => (mesh.root_namespace().clone(), ServiceAccount::egress_gateway()),
        };
        Identity {
            trust_domain: cluster.map_or(mesh.trust_domain(), |cluster| &cluster.trust_domain).clone(),
            namespace,
            service_account,
        }
    }
}
