//! The language tier: what the language reference says is so.

#![expect(clippy::expect_used, clippy::panic, reason = "a page that cannot be read fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use isthmus::case::{Call, Origin, Request};
use isthmus::walk::explain::{self, Level};
use isthmus::walk::{self, NoPath};
use isthmus_tests::repository;
use policy::compile::Plans;
use policy::document::Located;
use policy::finding::{Place, has_errors};
use policy::{Mesh, Policy, compile};

/// A fenced block: the line it begins in, what is said after the fence, its text, and the section it stands in.
struct Block {
    line: usize,
    info: String,
    text: String,
    section: usize,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut section) = (Vec::new(), 0);
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: number + 1, info: info.to_owned(), text: String::new(), section });
            }
            (None, None) => section += usize::from(line.starts_with('#')),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
        }
    }
    blocks
}

fn page() -> Vec<Block> {
    blocks(&std::fs::read_to_string(repository().join("docs/language.md")).expect("the reference"))
}

fn located<T>(value: T) -> Located<T> {
    Located { at: Place { file: Arc::from("language.md"), line: 1, column: 1, width: 1 }, value }
}

/// One line of a `verdicts` block.
#[derive(Debug)]
struct Line {
    call: Call,
    level: Level,
    /// `VERDICT REASON`, or `unreachable` where the request never goes to that cluster.
    wanted: String,
}

/// Reads `SENDER [LEVEL]  METHOD HOST/PATH {HEADER: VALUE}  to CLUSTER  VERDICT REASON`.
fn line(text: &str) -> Line {
    let columns: Vec<&str> = text.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let &[sender, request, to, wanted] = columns.as_slice() else { panic!("not four columns: {text}") };
    let (sender, level) = sender.split_once(' ').unwrap_or((sender, "[verified]"));
    let level = match level {
        "[verified]" => Level::Verified,
        "[claimed]" => Level::Claimed,
        "[unknown]" => Level::Unknown,
        other => panic!("no level: {other}"),
    };
    let parts: Vec<&str> = sender.split('/').collect();
    let &[cluster, namespace, account] = parts.as_slice() else { panic!("no sender: {text}") };
    let (request, headers) = request.split_once(" {").unwrap_or((request, ""));
    let header = headers.trim_end_matches('}').split_once(": ");
    let (method, target) = request.split_once(' ').expect("a method and a target");
    let start = target.find(['/', '\\']).expect("a path");
    let (host, path) = target.split_at(start);
    Line {
        call: Call {
            from: Origin {
                cluster: located(cluster.parse().expect("a cluster")),
                namespace: namespace.parse().expect("a namespace"),
                service_account: account.parse().expect("an account"),
            },
            to: Some(located(to.strip_prefix("to ").expect("a cluster").parse().expect("a cluster"))),
            request: Request {
                host: located(host.to_owned()),
                method: method.to_owned(),
                // A path begins with a slash; what an HTTP client would send as it stands is sent so.
                path: path.replacen('\\', "/", usize::from(path.starts_with('\\'))),
                headers: header
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into_iter()
                    .collect(),
            },
        },
        level,
        wanted: wanted.to_owned(),
    }
}

fn judged(mesh: &Mesh, plans: &Plans, line: &Line) -> String {
    match walk::journeys(mesh, plans, &line.call) {
        Ok(journeys) => {
            let [journey] = journeys.as_slice() else { panic!("not one way: {line:?}") };
            let told = explain::walk(mesh, plans, journey, line.level).expect("a walk");
            format!("{} {}", told.verdict, told.reason)
        }
        Err(NoPath::OutOfReach { .. }) => "unreachable".to_owned(),
        Err(NoPath::Misfit) => panic!("the line does not fit the mesh: {line:?}"),
    }
}

#[test]
fn every_example_compiles_and_every_verdict_is_so() {
    let (mut mesh, mut texts, mut section) = (None, String::new(), 0);
    let (mut lines, mut wrong) = (0, Vec::new());
    for block in page() {
        if block.section != section {
            (section, texts) = (block.section, String::new());
        }
        match block.info.as_str() {
            "yaml" if block.text.contains("kind: Mesh") => {
                let (read, findings) = Mesh::read("mesh.yaml", &block.text);
                assert_eq!(findings, [], "the mesh in line {}", block.line);
                mesh = read;
            }
            "yaml" => {
                texts += &format!("---\n{}", block.text);
                let mesh = mesh.as_ref().expect("a mesh before it");
                let (policies, mut findings) = Policy::read("policy.yaml", &texts, mesh.root_namespace());
                findings.extend(compile(mesh, &policies).1);
                // Of warnings only those that an example is there to show: a boundary that keeps a pin away.
                assert!(!has_errors(&findings), "line {}: {findings:?}", block.line);
            }
            "verdicts" => {
                let mesh = mesh.as_ref().expect("a mesh before it");
                let (policies, _) = Policy::read("policy.yaml", &texts, mesh.root_namespace());
                let plans = compile(mesh, &policies).0.expect("plans");
                for text in block.text.lines() {
                    let said = line(text);
                    let judged = judged(mesh, &plans, &said);
                    lines += 1;
                    if judged != said.wanted {
                        wrong.push(format!("{text}\n    is {judged}"));
                    }
                }
            }
            other => panic!("line {}: a block of {other:?} is not run", block.line),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines >= 60, "only {lines} verdicts");
}

#[test]
fn every_field_of_the_language_is_in_its_tables() {
    let page = std::fs::read_to_string(repository().join("docs/language.md")).expect("the reference");
    let fields = "trustDomain root meshes clusters services name network region mesh context directory apiServer \
        controlPlane gateway podCidr issuers mode access routing exposure source scope deny allow networks regions \
        namespaces principals trustDomains ports methods paths hosts boundary pin split hashOn prefer failover";
    let missing: Vec<&str> =
        fields.split_whitespace().filter(|field| !page.contains(&format!("`{field}`"))).collect();
    assert_eq!(missing, [""; 0]);
    let shown: BTreeMap<&str, bool> =
        ["notNetworks", "notPrincipals", "notPaths"].map(|twin| (twin, page.contains(twin))).into();
    assert!(shown.values().all(|shown| *shown), "{shown:?}");
}
