//! `suite`: ten thousand cases, from their file to the report.

use std::fmt::Write as _;
use std::time::Instant;

use isthmus::report::Report as Tested;
use isthmus::runner::{self, Collection, Options};
use isthmus::sandbox::Module;

use super::Outcome;
use super::figure::Report;

const CLUSTERS: usize = 4;
const SERVICES: usize = 25;
const SENDERS: usize = 20;

/// How long `isthmus test` takes for a suite over the whole path: its files read, its policies and the module compiled,
/// every case walked.
pub(super) fn seconds(report: &mut Report) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("mesh.yaml"), mesh())?;
    std::fs::write(dir.path().join("policies.yaml"), policies())?;
    std::fs::write(dir.path().join("cases.yaml"), cases())?;
    let begun = Instant::now();
    let collection = Collection::read(&runner::case_files(&[dir.path().to_owned()])?)?;
    let jobs = collection.jobs(&[]);
    let module = Module::compile(&std::fs::read(super::module())?)?;
    let options = Options { threads: None, fail_fast: false, now: time::OffsetDateTime::now_utc() };
    let walking = Instant::now();
    let tested = runner::run(&jobs, &module, options)?;
    let counts = Tested::new(&jobs, &tested).counts();
    let took = begun.elapsed().as_secs_f64();
    if (counts.passed, jobs.len()) != (10_000, 10_000) {
        return Err(format!("{counts:?} of {} cases", jobs.len()).into());
    }
    report.at_most("sandbox.suite10000_seconds", took, "s", 5.0);
    report.put("sandbox.cases_per_second", 10_000.0 / walking.elapsed().as_secs_f64(), "1/s");
    Ok(())
}

fn mesh() -> String {
    let mut text =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec:\n  clusters:\n".to_owned();
    for number in 0..CLUSTERS {
        let network = number % 2;
        let _infallible = writeln!(
            text,
            "  - {{name: c{number}, network: n{network}, gateway: {{address: 192.0.2.{number}}}, podCidr: 10.{number}.0.0/16}}"
        );
    }
    text.push_str("  services:\n");
    for number in 0..SERVICES {
        let _infallible =
            writeln!(text, "    s{number}.shop: {{port: 8080, clusters: [c{}]}}", number % CLUSTERS);
    }
    text
}

/// A policy for each service: half of the senders may read.
fn policies() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let _infallible = writeln!(
            text,
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p{service}, namespace: shop}}\n\
             spec:\n  services: [s{service}]\n  access:\n    scope: All\n    allow:"
        );
        for sender in (0..SENDERS).step_by(2) {
            let _infallible = writeln!(
                text,
                "    - {{name: r{sender}, from: [{{clusters: [\"*\"], namespaces: [ns{sender}]}}], to: [{{methods: [GET]}}]}}"
            );
        }
    }
    text
}

/// Every sender of every cluster asks every service, by five methods and paths: one entry for each.
fn cases() -> String {
    let mut text = "suite: many\nmesh: mesh.yaml\npolicies: [policies.yaml]\ncases:\n".to_owned();
    let asked = [("GET", "/"), ("GET", "/a"), ("GET", "/a/b?c=d"), ("POST", "/"), ("PUT", "/a")];
    for (service, cluster) in
        (0..SERVICES).flat_map(|service| (0..CLUSTERS).map(move |cluster| (service, cluster)))
    {
        for (sender, (method, path)) in (0..SENDERS).flat_map(|sender| asked.map(|asked| (sender, asked))) {
            let allowed = sender % 2 == 0 && method == "GET";
            let (verdict, reason) = if allowed {
                ("allow", format!("r{sender}"))
            } else {
                ("deny", "no-rule-matched".to_owned())
            };
            let _infallible = writeln!(
                text,
                "- name: {method} {path} of s{service} by ns{sender} in c{cluster}\n  \
                 from: {{cluster: c{cluster}, namespace: ns{sender}, serviceAccount: web}}\n  \
                 request: {{host: s{service}.shop, method: {method}, path: \"{path}\"}}\n  \
                 expect: {{verdict: {verdict}, reason: p{service}/{reason}, source: c{cluster}}}"
            );
        }
    }
    text
}
