use std::cell::Cell;

use policy::plan::Role;
use policy::{Mesh, Policy, compile};

use super::*;
use crate::host::{Headers, Kind, Metric, Reply};
use crate::pairs;

/// A sidecar of cluster a that no one has shown a certificate to.
#[derive(Default)]
struct Sidecar {
    headers: Vec<u8>,
    status: Cell<u32>,
}

impl Host for Sidecar {
    fn headers(&self, _: Headers) -> &[u8] {
        &self.headers
    }
    fn header(&self, _: Headers, _: &str) -> Option<&[u8]> {
        None
    }
    fn set_header(&self, _: Headers, _: &str, _: &str) {}
    fn add_header(&self, _: Headers, _: &str, _: &str) {}
    fn remove_header(&self, _: Headers, _: &str) {}
    fn property(&self, path: &str) -> Option<&[u8]> {
        match path.strip_prefix("xds\0node\0metadata\0")? {
            "CLUSTER_ID" => Some(b"a"),
            "NAMESPACE" => Some(b"shop"),
            "LABELS\0app" => Some(b"web"),
            _ => None,
        }
    }
    fn set_state(&self, _: &str, _: &str) {}
    fn declare_lasting(&self, _: &str) -> bool {
        true
    }
    fn has_mark(&self, _: &str) -> bool {
        false
    }
    fn metric(&self, _: Kind, _: &str) -> Option<Metric> {
        None
    }
    fn count(&self, _: Metric) {}
    fn gauge(&self, _: Metric, _: u64) {}
    fn reply(&self, reply: &Reply<'_>) {
        self.status.set(reply.status);
    }
    fn now(&self) -> u64 {
        0
    }
    fn close(&self) {}
    fn log(&self, _: Level, _: &str) {}
}

/// The configuration of the sidecar, for a rule of this name.
fn plan(rule: &str) -> Vec<u8> {
    let (mesh, _) = Mesh::read(
        "mesh.yaml",
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec: {clusters: [{name: a, network: n}]}\n",
    );
    let mesh = mesh.unwrap();
    let policy = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec: {{services: [web], access: {{allow: [{{name: {rule}, from: [{{clusters: [a]}}]}}]}}}}\n"
    );
    let (policies, _) = Policy::read("p.yaml", &policy, mesh.root_namespace());
    let plans = compile(&mesh, &policies).0.unwrap();
    let plan = plans[&"a".parse().unwrap()].at(Role::Inbound, &"shop".parse().unwrap()).to_json().unwrap();
    format!("{{\"role\":\"inbound\",\"digest\":\"\",\"plan\":{plan}}}").into_bytes()
}

/// What a request on a new stream of a root gets; 0: it goes on.
fn status(contexts: &mut Contexts, stream: u32, root: u32) -> u32 {
    let host = Sidecar { headers: pairs::encode(&[(":path", "/")]), ..Sidecar::default() };
    contexts.create(stream, root);
    let next = contexts.request(stream, &host);
    assert_eq!(next == Next::Continue, host.status.get() == 0);
    contexts.delete(stream);
    host.status.get()
}

#[test]
fn a_stream_of_a_plugin_without_configuration_is_not_let_through() {
    let mut contexts = Contexts::default();
    contexts.create(1, 0);
    assert!(!contexts.configure(1, b"{}", &Sidecar::default()));
    assert_eq!(status(&mut contexts, 2, 1), 503);
    assert_eq!(status(&mut contexts, 3, 99), 503);
}

#[test]
fn a_root_that_envoy_starts_again_outlives_the_end_of_its_first_time() {
    let (one, two) = (plan("one"), plan("two"));
    let host = Sidecar::default();
    let mut contexts = Contexts::default();
    contexts.create(1, 0);
    assert!(contexts.configure(1, &one, &host));
    contexts.create(2, 0);
    assert!(contexts.configure(2, &two, &host));
    // Back to the first plan: Envoy finds its root still there, starts it again, and then ends it for the first time.
    contexts.create(1, 0);
    assert!(contexts.configure(1, &one, &host));
    contexts.delete(1);
    assert_eq!(status(&mut contexts, 10, 1), 403, "it judges");
    contexts.delete(2);
    assert_eq!(status(&mut contexts, 11, 2), 503, "what was started once has ended");
}

#[test]
fn roots_that_come_and_go_do_not_pile_up() {
    let one = plan("one");
    let host = Sidecar::default();
    let mut contexts = Contexts::default();
    for root in 1..200 {
        contexts.create(root, 0);
        assert!(contexts.configure(root, &one, &host));
        if root % 2 == 0 {
            contexts.create(root, 0);
        }
        contexts.delete(root);
    }
    assert!(contexts.roots.len() <= KEPT && contexts.streams.is_empty(), "{}", contexts.roots.len());
}
