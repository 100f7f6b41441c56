//! Cases: requests with the verdict that each should get, in files beside the policies.

mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use policy::document::Located;
use policy::evaluate::{self, Departure, Leaving};
use policy::finding::{Code, Finding};
use policy::name::{ClusterName, Identity, Namespace, Service, ServiceAccount};
use policy::plan::OutboundPlan;
use policy::{Mesh, finding::Place};

use crate::lab::Client;
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
    /// The cluster that answers; `None`: whichever could, and all that could must agree.
    pub to: Option<Located<ClusterName>>,
    /// The request.
    pub request: Request,
    /// How well the destination's proxy can know where it is from.
    pub level: Level,
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
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Further headers, such as forged tags.
    pub headers: BTreeMap<String, String>,
}

/// What should come of a request. What is not said is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// The status that the client gets.
    pub status: Option<u16>,
    /// The source cluster that the destination knows.
    pub source: Option<String>,
    /// How well it knows it.
    pub level: Option<String>,
}

impl fmt::Display for Expectation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.verdict)?;
        if let Some(reason) = &self.reason {
            write!(out, " by {reason}")?;
        }
        if let Some(status) = self.status {
            write!(out, " with {status}")?;
        }
        if let Some(source) = &self.source {
            write!(out, ", source {source}")?;
        }
        if let Some(level) = &self.level {
            write!(out, ", {level}")?;
        }
        Ok(())
    }
}

/// As `isthmus explain` would be asked of it.
impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, request, level: _ } = self;
        let Request { host, method, path, headers } = request;
        write!(out, "{method} {}{path} from {}", host.value, from.cluster.value)?;
        write!(out, "/{}/{}", from.namespace, from.service_account)?;
        if let Some(to) = to {
            write!(out, " to {}", to.value)?;
        }
        headers.iter().try_for_each(|(name, value)| write!(out, " -H {:?}", format!("{name}: {value}")))
    }
}

impl Suite {
    /// Reads a file of cases; without errors among the findings there is a suite.
    pub fn read(file: &str, text: &str) -> (Option<Self>, Vec<Finding>) {
        read::suite(file, text)
    }

    /// Everyone who sends a request, for the lab.
    pub fn clients(&self) -> impl Iterator<Item = Client> {
        self.cases.iter().map(|case| {
            let Origin { cluster, namespace, service_account } = &case.call.from;
            stage::client(&cluster.value, namespace, service_account)
        })
    }

    /// What does not fit the mesh that the cases are about.
    pub fn check(&self, mesh: &Mesh) -> Vec<Finding> {
        let names: Vec<&str> = mesh.clusters().map(|cluster| cluster.name.as_str()).collect();
        let known = format!("the mesh has {}", names.join(", "));
        let mut findings = Vec::new();
        for case in self.cases.iter().map(|case| &case.call) {
            for cluster in std::iter::once(&case.from.cluster).chain(&case.to) {
                if mesh.cluster(&cluster.value).is_none() {
                    let message = format!("cluster {:?} is not in the mesh", cluster.value.as_str());
                    findings.push(not_in_mesh(&cluster.at, message, &known));
                }
            }
            match (case.service(), &case.to) {
                (None, _) => findings.push(Finding {
                    at: case.request.host.at.clone(),
                    code: Code::BadValue,
                    message: format!("{:?} is not a service of the mesh", case.request.host.value),
                    hint: "write NAME.NAMESPACE, with a port or without".to_owned(),
                }),
                (Some(service), Some(to)) if !mesh.hosts(&service).contains(&to.value) => {
                    findings.push(not_in_mesh(
                        &to.at,
                        format!("{} does not run {service}", to.value),
                        &known,
                    ));
                }
                (Some(_), _) => {}
            }
        }
        findings
    }
}

fn not_in_mesh(at: &Place, message: String, known: &str) -> Finding {
    Finding { at: at.clone(), code: Code::NotInMesh, message, hint: known.to_owned() }
}

impl Call {
    /// The service that the request is for.
    pub fn service(&self) -> Option<Service> {
        Service::from_authority(&self.request.host.value, &self.from.namespace).ok()
    }

    /// What its sender's sidecar decides by `plan`, with this draw.
    pub fn departure<'p>(&self, plan: &'p OutboundPlan, service: &Service, draw: u64) -> Departure<'p> {
        let header = |name: &str| self.request.headers.get(name).cloned();
        evaluate::outbound(plan, service, &Leaving { header: &header, draw })
    }

    /// The identity in the sender's certificate.
    pub fn identity(&self, mesh: &Mesh) -> Identity {
        let cluster = mesh.cluster(&self.from.cluster.value);
        Identity {
            trust_domain: cluster.map_or(mesh.trust_domain(), |cluster| &cluster.trust_domain).clone(),
            namespace: self.from.namespace.clone(),
            service_account: self.from.service_account.clone(),
        }
    }
}
