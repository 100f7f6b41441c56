//! The language tier: what the language reference says is so, and it leaves no key out.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a page that cannot be read fails its test"
)]

use std::collections::BTreeMap;

use isthmus_tests::repository;
use policy::compile::Plans;
use policy::evaluate::{self, Arrival, Leaving, Route};
use policy::finding::{Code, Finding};
use policy::mesh::{Cluster, IssuerName};
use policy::name::{ClusterName, Identity, Namespace, Service};
use policy::source::{Evidence, Source};
use policy::verdict::{Judgement, RESERVED, Verdict};
use policy::{Guard, Mesh, Policy};

/// A fenced block: the line it begins in, what is said after the fence, its text, and the section it stands in.
struct Block {
    line: usize,
    info: String,
    text: String,
    section: usize,
}

fn text() -> String {
    std::fs::read_to_string(repository().join("docs/language.md")).expect("the reference")
}

fn blocks() -> Vec<Block> {
    let (mut blocks, mut section) = (Vec::new(), 0);
    let mut open: Option<Block> = None;
    for (number, line) in text().lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: number + 1, info: info.to_owned(), text: String::new(), section });
            }
            (None, None) => section += usize::from(line.starts_with('#')),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "a block of the page has no end");
    blocks
}

/// A mesh, and the plans of the policies that hold in it.
struct World {
    mesh: Mesh,
    plans: Plans,
}

/// Compiles every document with those that it stands among, and gives each block of requests the world it is for.
fn worlds(mut requests: impl FnMut(&World, &Block)) {
    let (mut mesh, mut texts, mut section) = (None, String::new(), 0);
    for block in blocks() {
        if block.section != section {
            (section, texts) = (block.section, String::new());
        }
        // After `yaml` stand the warnings that the document is there to show.
        let shown = block.info.strip_prefix("yaml").map(|codes| codes.split_whitespace().collect::<Vec<_>>());
        if shown.is_some() && block.text.contains("kind: Mesh") {
            let (read, findings) = Mesh::read("mesh.yaml", &block.text);
            assert_eq!(findings, [], "the mesh in line {}", block.line);
            mesh = read;
            continue;
        }
        if shown.is_some() {
            texts += &format!("---\n{}", block.text);
        }
        let mesh: &Mesh = mesh.as_ref().expect("a mesh before it");
        let (policies, mut findings) = Policy::read("policy.yaml", &texts, mesh.root_namespace());
        let (plans, found) = policy::compile(mesh, &policies);
        findings.extend(found);
        match shown {
            Some(shown) => {
                let codes: Vec<String> = findings.iter().map(|finding| finding.code.to_string()).collect();
                assert_eq!(codes, shown, "line {}: {findings:?}", block.line);
            }
            None if block.info == "verdicts" => {
                requests(&World { mesh: mesh.clone(), plans: plans.expect("plans") }, &block);
            }
            None => panic!("line {}: a block of {:?} is not run", block.line, block.info),
        }
    }
}

/// Where a request is judged.
#[derive(Debug)]
enum Way {
    /// On its whole way to a cluster.
    To(ClusterName),
    /// By the sidecar that it leaves by alone.
    Leaves,
    /// By the sidecar that it arrives at alone, whatever way it came.
    At(ClusterName),
}

/// What may be odd about a request.
const NOTES: [&str; 5] = ["claimed", "unknown", "no identity", "no host", "no port"];

/// One line of a `verdicts` block.
#[derive(Debug)]
struct Line<'l> {
    cluster: ClusterName,
    identity: Identity,
    notes: Vec<&'l str>,
    method: &'l str,
    host: &'l str,
    path: &'l str,
    headers: BTreeMap<&'l str, &'l str>,
    service: Service,
    port: u16,
    way: Way,
    /// What should come of it, in the columns that are left.
    wanted: String,
}

impl<'l> Line<'l> {
    /// Reads `SENDER [NOTE, ...]  METHOD HOST/PATH {HEADER: VALUE, ...}  WAY  VERDICT REASON  ...`.
    fn read(text: &'l str, mesh: &Mesh) -> Self {
        let read = || {
            let columns: Vec<&str> =
                text.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
            let &[sender, request, way, ref wanted @ ..] = columns.as_slice() else { return None };
            let (sender, notes) = sender.split_once(" [").unwrap_or((sender, "]"));
            let notes = notes.strip_suffix(']')?.split(", ").filter(|note| !note.is_empty()).collect();
            let (request, headers) = request.split_once(" {").unwrap_or((request, "}"));
            let headers = headers.strip_suffix('}')?.split(", ").filter(|header| !header.is_empty());
            let (method, target) = request.split_once(' ')?;
            let (host, path) = target.split_at(target.find('/')?);
            let &[cluster, namespace, account] = sender.split('/').collect::<Vec<_>>().as_slice() else {
                return None;
            };
            let (cluster, namespace): (ClusterName, Namespace) =
                (cluster.parse().ok()?, namespace.parse().ok()?);
            let service = Service::from_authority(host, &namespace).ok()?;
            let trust_domain = mesh.cluster(&cluster)?.trust_domain.clone();
            Some(Self {
                cluster,
                identity: Identity { trust_domain, namespace, service_account: account.parse().ok()? },
                notes,
                method,
                host,
                path,
                headers: headers.map(|header| header.split_once(": ")).collect::<Option<_>>()?,
                port: mesh.service(&service).map_or(80, |listing| listing.port),
                service,
                way: match way.split_once(' ') {
                    Some(("to", cluster)) => Way::To(cluster.parse().ok()?),
                    Some(("at", cluster)) => Way::At(cluster.parse().ok()?),
                    _ => (way == "leaves").then_some(Way::Leaves)?,
                },
                wanted: wanted.join("  "),
            })
        };
        let line: Self = read().unwrap_or_else(|| panic!("no line of verdicts: {text}"));
        assert!(line.notes.iter().all(|note| NOTES.contains(note)), "no note: {text}");
        line
    }

    fn is(&self, note: &str) -> bool {
        self.notes.contains(&note)
    }

    /// What comes of it, as a line says it.
    fn judged(&self, world: &World) -> String {
        let (left, shares) = self.leave(world);
        match &self.way {
            Way::Leaves if shares.is_empty() => left,
            Way::Leaves => format!("{left}  for {}", places(&shares)),
            Way::At(cluster) => self.arrive(world, world.cluster(cluster)),
            Way::To(_) if shares.is_empty() => left,
            Way::To(cluster) if !shares.contains_key(cluster) => "not sent".to_owned(),
            Way::To(cluster) => {
                let cluster = world.cluster(cluster);
                self.refused_by_gateway(world, cluster).unwrap_or_else(|| self.arrive(world, cluster))
            }
        }
    }

    /// What its sender's sidecar says, and the clusters that it may go to, each with its share of a hundred draws.
    fn leave(&self, world: &World) -> (String, BTreeMap<ClusterName, usize>) {
        let header = |name: &str| self.headers.get(name).map(|value| (*value).to_owned());
        let hosts = world.mesh.hosts(&self.service);
        let (mut said, mut shares) = (String::new(), BTreeMap::new());
        for draw in 0..100 {
            let plan = &world.plans[&self.cluster].outbound;
            let departure = evaluate::outbound(plan, &self.service, &Leaving { header: &header, draw });
            let within = match departure.route {
                _ if !departure.verdict.is_allow() => Vec::new(),
                Route::Anywhere => hosts.iter().cloned().collect(),
                Route::Within(boundary) => {
                    let own = world.cluster(&self.cluster);
                    let is_inside = |host: &&ClusterName| boundary.joins(own, world.cluster(host));
                    hosts.iter().filter(is_inside).cloned().collect()
                }
                Route::To(cluster) => vec![cluster.clone()],
            };
            for cluster in within {
                *shares.entry(cluster).or_default() += 1;
            }
            said = words(departure.verdict, departure.shadow);
        }
        (said, shares)
    }

    fn refused_by_gateway(&self, world: &World, to: &Cluster) -> Option<String> {
        let source = world.cluster(&self.cluster);
        let address = source.pod_cidr.map(|pods| pods.address(10));
        let plan = &world.plans[&to.name].gateway;
        let judged = evaluate::gateway(plan, &self.service, Some(self.port), address);
        let crosses = source.network != to.network;
        (crosses && !judged.verdict.is_allow()).then(|| words(judged.verdict, judged.shadow))
    }

    fn arrive(&self, world: &World, to: &Cluster) -> String {
        let namespace = &self.service.namespace;
        let plan = world.plans[&to.name].inbound_of(namespace);
        let selector = world.mesh.service(&self.service).map(|listing| listing.selector.clone());
        let canonical = [("service.istio.io/canonical-name".to_owned(), self.service.name.to_string())];
        let labels = selector.filter(|labels| !labels.is_empty()).unwrap_or_else(|| canonical.into());
        let guard = Guard::new(plan, namespace, &labels);
        let source = world.cluster(&self.cluster);
        let peer = !self.is("unknown");
        let identity = Some(&self.identity).filter(|_| peer && !self.is("no identity"));
        let issuer = source.issuers.first().map(IssuerName::as_str);
        let evidence = Evidence {
            peer,
            issuer: issuer.filter(|_| peer && !self.is("claimed")),
            identity,
            // A sidecar that has a key signs whatever it sends.
            token: (peer && !self.is("claimed") && !source.token_keys.is_empty())
                .then_some(source.name.as_str()),
            tag: Some(self.headers.get("x-source-cluster").copied().unwrap_or(source.name.as_str())),
        };
        let arrival = Arrival {
            source: Source::of(plan, evidence),
            identity,
            port: Some(self.port).filter(|_| !self.is("no port")),
            method: self.method,
            path: self.path,
            host: Some(self.host).filter(|_| !self.is("no host")),
        };
        let Judgement { verdict, shadow } = evaluate::inbound(&guard, &arrival);
        words(verdict, shadow)
    }
}

impl World {
    fn cluster(&self, name: &ClusterName) -> &Cluster {
        self.mesh.cluster(name).unwrap_or_else(|| panic!("no cluster of the mesh: {name}"))
    }
}

fn words(verdict: Verdict<'_>, shadow: Option<Verdict<'_>>) -> String {
    let said = |verdict: Verdict<'_>| format!("{} {}", verdict.word(), verdict.reason());
    let shadow = shadow.map(|shadow| format!("  shadow: {}", said(shadow)));
    said(verdict) + &shadow.unwrap_or_default()
}

/// The clusters that may answer; with their shares where they are drawn.
fn places(shares: &BTreeMap<ClusterName, usize>) -> String {
    let drawn = shares.values().any(|share| *share < 100);
    let place = |(name, share): (&ClusterName, &usize)| {
        if drawn { format!("{name} {share}%") } else { name.to_string() }
    };
    shares.iter().map(place).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_example_compiles_and_every_verdict_is_so() {
    let (mut lines, mut wrong, mut reasons) = (0, Vec::new(), String::new());
    worlds(|world, block| {
        for text in block.text.lines() {
            let line = Line::read(text, &world.mesh);
            let judged = line.judged(world);
            lines += 1;
            if judged != line.wanted {
                wrong.push(format!("{text}\n    is {judged}"));
            }
            reasons += &format!("{judged} ");
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines >= 140, "only {lines} verdicts");
    for reserved in RESERVED {
        let shows = |word: &str| word == *reserved || word.ends_with(&format!("/{reserved}"));
        assert!(reasons.split_whitespace().any(shows), "no line shows {reserved}");
    }
}

/// Documents with a key that there is not, in every place where keys stand.
const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
zzzzzzzz: 1
metadata: {zzzzzzzz: 1}
spec:
  zzzzzzzz: 1
  meshes: [{zzzzzzzz: 1}]
  istio: {zzzzzzzz: 1}
  tokens: {zzzzzzzz: 1}
  global: {zzzzzzzz: 1}
  clusters: [{zzzzzzzz: 1, controlPlane: {zzzzzzzz: 1}, gateway: {zzzzzzzz: 1}, tokenKeys: [{zzzzzzzz: 1}]}]
  services: {a.b: {zzzzzzzz: 1, otherPorts: [{zzzzzzzz: 1}]}}
";
const POLICY: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
zzzzzzzz: 1
metadata: {name: a, namespace: b, zzzzzzzz: 1}
spec:
  zzzzzzzz: 1
  services: []
  access: {zzzzzzzz: 1, deny: [{zzzzzzzz: 1, from: [{zzzzzzzz: 1}], to: [{zzzzzzzz: 1}]}]}
  routing: {zzzzzzzz: 1, pin: {zzzzzzzz: 1}, split: [{zzzzzzzz: 1}], hashOn: {zzzzzzzz: 1}}
  exposure: {zzzzzzzz: 1, to: {zzzzzzzz: 1}}
";

/// The keys that findings say there are.
fn keys(text: &str, findings: &[Finding]) -> Vec<String> {
    let unknown = findings.iter().filter(|finding| finding.code == Code::UnknownKey);
    let listed: Vec<&str> =
        unknown.filter_map(|finding| Some(finding.hint.split_once(" has these: ")?.1)).collect();
    assert_eq!(listed.len(), text.matches("zzzzzzzz").count(), "some place was not looked into");
    listed.iter().flat_map(|keys| keys.split(", ")).map(str::to_owned).collect()
}

#[test]
fn every_key_that_is_read_stands_in_a_table_and_no_other_does() {
    let mut known = keys(MESH, &Mesh::read("mesh.yaml", MESH).1);
    known.extend(keys(POLICY, &Policy::read("a.yaml", POLICY, &"istio-system".parse().expect("a name")).1));
    known.sort();
    known.dedup();
    let (mut listed, mut among_fields) = (Vec::new(), false);
    for line in text().lines() {
        among_fields = line.starts_with("| field") || among_fields && line.starts_with('|');
        let cell = line.split('|').nth(1).filter(|_| among_fields).unwrap_or_default();
        listed.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    listed.sort();
    listed.dedup();
    assert_eq!(listed, known);
}
