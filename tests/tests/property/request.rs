//! Requests at random, and what isthmus says of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use policy::Verdict;
use policy::evaluate::{self, Arrival};
use policy::mesh::{Cluster, IssuerName};
use policy::name::{ClusterName, Identity, Namespace, Service};
use policy::plan::Guard;
use policy::source::{Evidence, Source};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::world::{Compiled, SERVICES, labels};

/// A decision in words: allow or deny, why, and at the source how far the request may go.
pub(crate) type Words = (bool, String);

pub(crate) fn words(verdict: &Verdict<'_>) -> Words {
    (verdict.is_allow(), verdict.reason())
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

/// A request anywhere in a mesh; each place looks at its own part.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    at: Index,
    service: (&'static str, &'static str),
    address: Option<Ipv4Addr>,
    pub(crate) labels: BTreeMap<String, String>,
    peer: bool,
    signer: Signer,
    tag: Option<&'static str>,
    identity: Option<(&'static str, &'static str)>,
    pub(crate) port: u16,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let signer = prop_oneof![
        1 => Just(Signer::Unsaid),
        1 => Just(Signer::Stranger),
        6 => (any::<Index>(), any::<Index>()).prop_map(|(cluster, name)| Signer::Cluster(cluster, name)),
    ];
    let tag = option::of(select(&["eu-1", "us-1", "asia", "mars", "", "EU-1", "eu-1 "][..]));
    let source = (prop::bool::weighted(0.9), signer, tag);
    let identity = option::weighted(0.9, (select(&["checkout", "batch"][..]), select(&["web", "job"][..])));
    let address =
        option::weighted(0.9, (0..7_u8, 0..2_u8).prop_map(|(net, host)| Ipv4Addr::new(10, net, host, 1)));
    let target = (
        select(&[80_u16, 8080, 9090][..]),
        select(&["GET", "POST", "PUT", "DELETE"][..]),
        select(&["/v1/a", "/v1", "/health", "/health?a=/v1/", "/x.json", "/x.json?y", "/", ""][..]),
    );
    let place = (any::<Index>(), select(&SERVICES[..]), labels());
    (place, source, identity, address, target).prop_map(|(place, source, identity, address, target)| {
        let ((at, service, labels), (peer, signer, tag), (port, method, path)) = (place, source, target);
        Request { at, service, address, labels, peer, signer, tag, identity, port, method, path }
    })
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
        let (namespace, account) = self.identity?;
        Some(format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").parse().expect("an identity"))
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

    /// The evidence as facts: the peer, its issuer, its tag.
    pub(crate) fn evidence(&self, world: &Compiled) -> (bool, Option<String>, Option<&'static str>) {
        (self.peer, self.issuer(world), self.tag)
    }

    pub(crate) fn outbound(&self, world: &Compiled) -> (Words, String) {
        let departure = evaluate::outbound(&world.plans[self.at(world)], &self.service());
        (words(&departure.verdict), format!("{:?}", departure.within))
    }

    pub(crate) fn gateway(&self, world: &Compiled) -> Words {
        words(&evaluate::gateway(&world.plans[self.at(world)], &self.service(), self.address()))
    }

    pub(crate) fn inbound(&self, world: &Compiled) -> Words {
        let plan = &world.plans[self.at(world)];
        let guard = Guard::new(plan, &self.namespace(), &self.labels);
        let issuer = self.issuer(world);
        let evidence = Evidence { peer: self.peer, issuer: issuer.as_deref(), tag: self.tag };
        let identity = self.identity();
        let arrival = Arrival {
            source: Source::of(plan, evidence),
            identity: identity.as_ref(),
            port: self.port,
            method: self.method,
            path: self.path,
        };
        words(&evaluate::inbound(plan, &guard, &arrival))
    }

    fn at<'w>(&self, world: &'w Compiled) -> &'w ClusterName {
        &self.cluster(world).name
    }
}
