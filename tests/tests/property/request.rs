//! Requests at random, and what isthmus says of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use policy::compile::ClusterPlans;
use policy::evaluate::{self, Arrival, Leaving, Route};
use policy::mesh::{Cluster, IssuerName};
use policy::name::{ClusterName, Identity, Namespace, Service};
use policy::source::{Evidence, Source};
use policy::verdict::Judgement;
use policy::{Guard, Verdict, explain};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::spec::{CELL, CELLS};
use super::world::{Compiled, SERVICES, labels};

/// A decision in words: allow or deny, and why.
pub(crate) type Words = (bool, String);

/// What is done, and what the policies in shadow would make of it.
pub(crate) type Both = (Words, Option<Words>);

pub(crate) fn words(verdict: &Verdict<'_>) -> Words {
    (verdict.is_allow(), verdict.reason())
}

fn both(judgement: &Judgement<'_>) -> Both {
    (words(&judgement.verdict), judgement.shadow.as_ref().map(words))
}

/// Who signed the peer's certificate.
#[derive(Debug, Clone)]
pub(crate) enum Signer {
    /// This Envoy does not say.
    Unsaid,
    /// Someone that the mesh does not have.
    Stranger,
    /// The intermediate of a cluster, by one of its names.
    Cluster(Index, Index),
}

/// A path as it came, and as rules see it; what no one can be sure of is not known.
pub(crate) type RawPath = (&'static str, Option<&'static str>);

const PATHS: [RawPath; 16] = [
    ("/v1/a", Some("/v1/a")),
    ("/v1", Some("/v1")),
    ("/health", Some("/health")),
    ("/health?a=/v1/", Some("/health")),
    ("/x.json", Some("/x.json")),
    ("/x.json?y#z", Some("/x.json")),
    ("/", Some("/")),
    ("", None),
    ("*", None),
    ("/v1/%00", None),
    ("/v1/../admin", Some("/admin")),
    ("/v1/%2e%2E/admin/x", Some("/admin/x")),
    ("/v1//a", Some("/v1//a")),
    ("/%76%31/a", Some("/v1/a")),
    ("/v1%2fa", Some("/v1%2fa")),
    ("/health\\..\\v1\\a", Some("/v1/a")),
];

/// A host as it came, and as rules see it.
const HOSTS: [(Option<&str>, Option<&str>); 6] = [
    (Some("ledger.payments"), Some("ledger.payments")),
    (Some("Ledger.Payments.:8080"), Some("ledger.payments")),
    (Some("web.shop:80"), Some("web.shop")),
    (Some("www.example"), Some("www.example")),
    (Some(":80"), None),
    (None, None),
];

/// A request anywhere in a mesh; each place looks at its own part.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    at: Index,
    service: (&'static str, &'static str),
    address: Option<Ipv4Addr>,
    pub(crate) labels: BTreeMap<String, String>,
    peer: bool,
    signer: Signer,
    token: Option<&'static str>,
    tag: Option<&'static str>,
    identity: Option<(&'static str, &'static str, &'static str)>,
    pub(crate) port: Option<u16>,
    pub(crate) method: &'static str,
    pub(crate) path: RawPath,
    pub(crate) host: (Option<&'static str>, Option<&'static str>),
    headers: BTreeMap<&'static str, String>,
    pub(crate) draw: u64,
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let signer = prop_oneof![
        1 => Just(Signer::Unsaid),
        1 => Just(Signer::Stranger),
        6 => (any::<Index>(), any::<Index>()).prop_map(|(cluster, name)| Signer::Cluster(cluster, name)),
    ];
    let tag = option::of(select(&["eu-1", "us-1", "asia", "mars", "", "EU-1", "eu-1 "][..]));
    let token = option::weighted(0.3, select(&["eu-1", "us-1", "asia", "mars"][..]));
    let source = (prop::bool::weighted(0.9), signer, token, tag);
    let domain = prop_oneof![4 => Just("cluster.local"), 1 => Just("two.example")];
    let identity =
        option::weighted(0.9, (domain, select(&["checkout", "batch"][..]), select(&["web", "job"][..])));
    let address =
        option::weighted(0.9, (0..7_u8, 0..2_u8).prop_map(|(net, host)| Ipv4Addr::new(10, net, host, 1)));
    let target = (
        select(&[Some(80_u16), Some(8080), Some(9090), Some(0), None][..]),
        select(&["GET", "POST", "PUT", "DELETE", ""][..]),
        select(&PATHS[..]),
        select(&HOSTS[..]),
    );
    let cell = option::weighted(0.5, select(&[CELLS[0], CELLS[1], CELLS[2], "A", ""][..]));
    let user = option::of("[a-z]{0,3}");
    let cookie = option::of("(|a=b; )session=[a-z]{0,3}(|; c=d)");
    let headers = (cell, user, cookie).prop_map(|(cell, user, cookie)| {
        let cell = cell.map(|cell| (CELL, cell.to_owned()));
        let user = user.map(|user| ("x-user", user));
        cell.into_iter().chain(user).chain(cookie.map(|cookie| ("cookie", cookie))).collect()
    });
    let place = (any::<Index>(), select(&SERVICES[..]), labels());
    let rest = (headers, any::<u64>());
    (place, source, identity, address, target, rest).prop_map(
        |(place, source, identity, address, target, rest)| {
            let ((at, service, labels), (peer, signer, token, tag), (port, method, path, host)) =
                (place, source, target);
            let (headers, draw) = rest;
            Request {
                at,
                service,
                address,
                labels,
                peer,
                signer,
                token,
                tag,
                identity,
                port,
                method,
                path,
                host,
                headers,
                draw,
            }
        },
    )
}

impl Request {
    /// The cluster whose proxy judges it.
    pub(crate) fn cluster<'w>(&self, world: &'w Compiled) -> &'w Cluster {
        let clusters: Vec<&Cluster> = world.mesh.clusters().collect();
        clusters[self.at.index(clusters.len())]
    }

    pub(crate) fn service(&self) -> Service {
        let (name, namespace) = self.service;
        format!("{name}.{namespace}").parse().expect("a service")
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.service().namespace
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address.map(IpAddr::V4)
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        let (domain, namespace, account) = self.identity?;
        Some(format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse().expect("an identity"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    /// What the peer's certificate says of its issuer.
    fn issuer(&self, world: &Compiled) -> Option<String> {
        match &self.signer {
            Signer::Unsaid => None,
            Signer::Stranger => Some("CN=stranger,O=x".to_owned()),
            Signer::Cluster(cluster, name) => {
                let clusters: Vec<&Cluster> = world.mesh.clusters().collect();
                let issuers: Vec<&IssuerName> =
                    clusters[cluster.index(clusters.len())].issuers.iter().collect();
                Some(issuers[name.index(issuers.len())].to_string())
            }
        }
    }

    /// The evidence as facts: the peer, its issuer, its token and its tag.
    pub(crate) fn evidence(&self, world: &Compiled) -> (bool, Option<String>, [Option<&'static str>; 2]) {
        (self.peer, self.issuer(world), [self.token, self.tag])
    }

    /// The source as the plan has it, in words.
    pub(crate) fn source(&self, world: &Compiled) -> String {
        self.arriving(world, |_, _, arrival| arrival.source.to_string())
    }

    pub(crate) fn outbound(&self, world: &Compiled) -> (Both, String) {
        self.outbound_at(world, &self.cluster(world).name)
    }

    pub(crate) fn outbound_at(&self, world: &Compiled, cluster: &ClusterName) -> (Both, String) {
        let header = |name: &str| self.header(name);
        let leaving = Leaving { header: &header, draw: self.draw };
        let departure = evaluate::outbound(&world.plans[cluster].outbound, &self.service(), &leaving);
        let route = match departure.route {
            _ if !departure.verdict.is_allow() => "nowhere".to_owned(),
            Route::Anywhere => "anywhere".to_owned(),
            Route::Within(boundary) => format!("within {boundary:?}"),
            Route::To(cluster) => format!("to {cluster}"),
        };
        ((words(&departure.verdict), departure.shadow.as_ref().map(words)), route)
    }

    pub(crate) fn gateway(&self, world: &Compiled) -> Both {
        self.gateway_at(world, &self.cluster(world).name)
    }

    pub(crate) fn gateway_at(&self, world: &Compiled, cluster: &ClusterName) -> Both {
        let plan = &world.plans[cluster].gateway;
        both(&evaluate::gateway(plan, &self.service(), self.port, self.address()))
    }

    pub(crate) fn inbound(&self, world: &Compiled) -> Both {
        self.arriving(world, |_, guard, arrival| both(&evaluate::inbound(guard, arrival)))
    }

    /// The source and what is decided by the plans of one world, of a request that comes from another.
    pub(crate) fn inbound_at(
        &self,
        from: &Compiled,
        world: &Compiled,
        cluster: &ClusterName,
    ) -> (String, Both) {
        self.arriving_at(from, &world.plans[cluster], |_, guard, arrival| {
            (arrival.source.to_string(), both(&evaluate::inbound(guard, arrival)))
        })
    }

    pub(crate) fn explained(&self, world: &Compiled) -> explain::Walk {
        self.arriving(world, explain::inbound)
    }

    fn arriving<T>(
        &self,
        world: &Compiled,
        judge: impl Fn(&policy::plan::InboundPlan, &Guard, &Arrival<'_>) -> T,
    ) -> T {
        self.arriving_at(world, &world.plans[&self.cluster(world).name], judge)
    }

    fn arriving_at<T>(
        &self,
        world: &Compiled,
        plans: &ClusterPlans,
        judge: impl Fn(&policy::plan::InboundPlan, &Guard, &Arrival<'_>) -> T,
    ) -> T {
        let plan = plans.inbound_of(&self.namespace());
        let guard = Guard::new(plan, &self.namespace(), &self.labels);
        let (issuer, identity) = (self.issuer(world), self.identity());
        let evidence = Evidence {
            peer: self.peer,
            issuer: issuer.as_deref(),
            identity: identity.as_ref(),
            token: self.token,
            tag: self.tag,
        };
        let arrival = Arrival {
            source: Source::of(plan, evidence),
            identity: identity.as_ref(),
            port: self.port,
            method: self.method,
            path: self.path.0,
            host: self.host.0,
        };
        judge(plan, &guard, &arrival)
    }
}
