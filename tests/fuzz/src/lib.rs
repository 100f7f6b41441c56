//! What must hold of every input, however it came to be: a function for each target, which panics where it does not.

#![forbid(unsafe_code)]

mod request;
mod token;

use std::sync::LazyLock;

use isthmus_filter::contexts::Contexts;
use policy::finding::{Finding, has_errors};
use policy::plan::{Configuration, Home, Role};
use policy::{Mesh, Plan, Policy, certificate, compile, path::normalise};

pub use request::Request;
pub use token::token;

/// The mesh that policies are compiled against.
pub const MESH: &str = include_str!("../../golden/access/mesh.yaml");

static SOUND: LazyLock<Mesh> = LazyLock::new(|| {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    mesh.unwrap_or_else(|| panic!("the mesh of the golden tests is sound: {findings:?}"))
});

/// Every finding is of a line that there is, as YAML counts lines: a carriage return ends one too.
fn placed(text: &str, findings: &[Finding]) {
    let lines = 1 + text.matches(['\r', '\n']).count();
    for finding in findings {
        let line = finding.at.line;
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {finding:?}");
    }
}

/// A text as `mesh.yaml`: it is a mesh or there is an error, and what it was once it is again.
pub fn mesh(text: &str) {
    let (mesh, findings) = Mesh::read("mesh.yaml", text);
    assert_eq!(mesh.is_none(), has_errors(&findings), "{findings:?}");
    placed(text, &findings);
    if let Some(mesh) = &mesh {
        let (plans, _) = compile(mesh, &[]);
        assert!(plans.is_some(), "a sound mesh without policies does not compile");
    }
    assert_eq!(Mesh::read("mesh.yaml", text), (mesh, findings));
}

/// A text as a file of policies: it compiles or there is an error, its plans come back from their JSON, and the
/// order of policies does not show in them.
pub fn policy(text: &str) {
    let mesh = &*SOUND;
    let (mut policies, read) = Policy::read("policy.yaml", text, mesh.root_namespace());
    placed(text, &read);
    let (plans, findings) = compile(mesh, &policies);
    assert_eq!(plans.is_none(), has_errors(&findings), "{findings:?}");
    placed(text, &findings);
    for (role, _, plan) in plans.iter().flat_map(|plans| plans.values()).flat_map(|plans| plans.parts()) {
        comes_back(role, &plan);
    }
    policies.reverse();
    assert_eq!(compile(mesh, &policies).0, plans);
}

fn comes_back(role: Role, plan: &Plan) {
    let json = plan.to_json().expect("a plan is JSON");
    match Plan::read(role, json.as_bytes()) {
        Ok(again) => assert_eq!(again, *plan, "{json}"),
        Err(error) => panic!("{error:?}: {json}"),
    }
}

/// A plugin's configuration on the first line, and on the lines after it what a [`Request`] shows: what was read
/// comes back from its JSON, and the filter runs on it.
pub fn plan(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let json = lines.next().unwrap_or_default();
    let Ok(configuration) = Configuration::read(json) else { return };
    comes_back(configuration.role, &configuration.plan);
    let request = Request::new(configuration.plan.home(), lines.collect());
    let mut contexts = Contexts::default();
    contexts.create(1, 0);
    if contexts.configure(1, json, &request) {
        for stream in 2..4 {
            contexts.create(stream, 1);
            let _either = contexts.request(stream, &request);
            let _either = contexts.connection(stream, &request);
            contexts.answer(stream, &request);
            contexts.delete(stream);
        }
    }
}

/// A header map as the proxy would hand it over, or no such thing: the filter stands it at each of its places.
pub fn headers(bytes: &[u8]) {
    for (json, home) in &*PLACES {
        let request = Request::raw(home, bytes);
        let mut contexts = Contexts::default();
        contexts.create(1, 0);
        assert!(contexts.configure(1, json, &request), "a sound plan is taken");
        contexts.create(2, 1);
        let _either = contexts.request(2, &request);
        contexts.answer(2, &request);
    }
    let _read = isthmus_filter::pairs::of(bytes).count();
}

/// Configurations of both directions in one cluster.
static PLACES: LazyLock<Vec<(Vec<u8>, Home)>> = LazyLock::new(|| {
    let text = include_str!("../../golden/access/policies/ledger.yaml");
    let (policies, _) = Policy::read("ledger.yaml", text, SOUND.root_namespace());
    let plans = compile(&SOUND, &policies).0.expect("a sound policy");
    let parts = plans[&"eu-1".parse().expect("a name")].parts();
    let place = |(role, _, plan): (Role, _, Plan)| {
        let (role, digest) = (role.as_str(), "0".repeat(64));
        let json = plan.to_json().expect("a plan is JSON");
        let json = format!("{{\"role\":\"{role}\",\"digest\":\"{digest}\",\"plan\":{json}}}");
        (json.into_bytes(), plan.home().clone())
    };
    parts.into_iter().map(place).collect()
});

/// A raw path: what comes out is a path without query, in visible ASCII, without dot segments, and final.
pub fn path(text: &str) {
    let Some(normal) = normalise(text) else { return };
    assert!(normal.starts_with('/') && normal.bytes().all(|byte| byte.is_ascii_graphic()), "{normal}");
    assert!(!normal.contains(['?', '#', '\\']), "{normal}");
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    assert!(!normal.split('/').any(dots), "{normal}");
    assert_eq!(normalise(&normal).as_deref(), Some(&*normal));
}

/// A certificate in DER: an issuer is read, or an error says why not.
pub fn certificate(der: &[u8]) {
    if let Ok(issuer) = certificate::issuer(der) {
        assert!(issuer.is_empty() || issuer.contains('='), "{issuer}");
    }
}
