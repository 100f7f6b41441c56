//! Who may reach what across the clusters of an Istio mesh: the language, its meaning, and nothing else.
//!
//! This crate is pure: text and values in, values out. No files, no network, no clock, no randomness. The host
//! reads files and clusters and hands their text in; the filter inside Envoy hands in what a request showed.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use policy::evaluate::{self, Arrival};
//! use policy::source::{Evidence, Source};
//! use policy::{Guard, Mesh, Policy, compile};
//!
//! let (mesh, _) = Mesh::read("mesh.yaml", "
//! apiVersion: isthmus.dev/v1alpha1
//! kind: Mesh
//! metadata: {name: mesh1}
//! spec:
//!   clusters:
//!   - {name: eu-1, network: n1, gateway: {address: 192.0.2.1}}
//!   - {name: us-1, network: n2, gateway: {address: 192.0.2.2}}
//! ");
//! let mesh = mesh.unwrap();
//! let (policies, _) = Policy::read("ledger.yaml", "
//! apiVersion: isthmus.dev/v1alpha1
//! kind: CrossClusterPolicy
//! metadata: {name: ledger, namespace: payments}
//! spec:
//!   services: [ledger]
//!   access: {allow: [{name: from-eu, from: [{clusters: [\"eu-*\"]}]}]}
//! ", mesh.root_namespace());
//! let (plans, findings) = compile(&mesh, &policies);
//! assert!(findings.is_empty());
//!
//! let plan = &plans.unwrap()[&"eu-1".parse()?].inbound;
//! let labels = BTreeMap::from([("app".to_owned(), "ledger".to_owned())]);
//! let guard = Guard::new(plan, &"payments".parse()?, &labels);
//! let issuer = Some("L=us-1,CN=Intermediate CA,O=Istio");
//! let source = Source::of(plan, Evidence { peer: true, issuer, tag: Some("eu-1"), ..Evidence::default() });
//! let arrival =
//!     Arrival { source, identity: None, port: Some(8080), method: "GET", path: "/", host: Some("ledger") };
//! assert_eq!(evaluate::inbound(&guard, &arrival).verdict.reason(), "ledger/no-rule-matched");
//! # Ok::<(), policy::name::NameError>(())
//! ```

#![forbid(unsafe_code)]

pub mod certificate;
pub mod cidr;
pub mod compile;
pub mod document;
pub mod evaluate;
pub mod explain;
pub mod facts;
pub mod finding;
pub mod guard;
pub mod key;
mod kind;
pub mod map;
pub mod meaning;
pub mod mesh;
pub mod name;
pub mod path;
pub mod pattern;
pub mod plan;
pub mod rule;
pub mod set;
pub mod source;
pub mod verdict;

pub use compile::compile;
pub use finding::Finding;
pub use guard::Guard;
pub use kind::{API_VERSION, expect as expect_kind};
pub use mesh::Mesh;
pub use plan::Plan;
pub use rule::Policy;
pub use verdict::Verdict;
