//! Where a request comes from, and how well that is known.

use std::fmt;

use crate::name::{ClusterName, Identity};
use crate::plan::{InboundPlan, Location};
use crate::rule::Demand;

/// The source cluster of a request. Nothing weaker than a proof is ever shown as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'p> {
    /// Nothing says where it comes from, or nothing that counts.
    Unknown,
    /// The tag says so, on a connection whose peer showed a certificate of the mesh.
    Claimed(&'p Location),
    /// Something that the peer cannot make up says so.
    Verified(&'p Location, By),
}

/// What proves a source, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The issuer of the peer's certificate is the intermediate CA of this cluster alone.
    Certificate,
    /// The identity in the peer's certificate is of a trust domain whose root signs for this cluster alone.
    TrustDomain,
    /// A token that only this cluster's key can have signed names that identity.
    Token,
}

/// What a connection and its request show of their source.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'r> {
    /// Whether the peer showed a certificate that Envoy has checked up to a root of the mesh.
    pub peer: bool,
    /// The issuer of that certificate, where this Envoy gives the certificate away (1.38 and later).
    pub issuer: Option<&'r str>,
    /// The identity in that certificate.
    pub identity: Option<&'r Identity>,
    /// The cluster that a token names; the filter has checked it against a key of that cluster and that identity.
    pub token: Option<&'r str>,
    /// What the tag header claims.
    pub tag: Option<&'r str>,
}

impl<'p> Source<'p> {
    /// Weighs the evidence. The first line that fits decides, and nothing below it is looked at:
    ///
    /// | the peer shows | and | the source is |
    /// |---|---|---|
    /// | no certificate | | unknown |
    /// | an issuer of cluster A | an identity that A can have | A, by certificate |
    /// | an issuer of cluster A | any other identity, or none | unknown |
    /// | an issuer that no cluster has, or none | an identity of a trust domain that proves A | A, by trust domain |
    /// | the same | a token of A, and an identity that A can have | A, by token |
    /// | the same | a tag that names A | A, claimed |
    /// | the same | nothing of the kind | unknown |
    ///
    /// An identity is one that A can have if its trust domain is A's; where the plan knows of one trust domain only, any.
    /// So what contradicts itself is what its strongest part says: an issuer beats a token, and a token for a cluster of
    /// another trust domain is none. A tag counts only beside a certificate, and never against it.
    ///
    /// What is assumed. Envoy checks the peer's chain up to a root; that this root may sign for the trust domain in the
    /// certificate is the proxy's configuration (one root for all that trust each other, or a root for each trust
    /// domain, as with a SPIFFE bundle). Where meshes with roots of their own meet, an issuer's name alone proves
    /// nothing: another root may sign a CA of the same name. What that root cannot do is sign for this trust domain.
    /// Where one root signs for several clusters, any CA below it can put any trust domain into a leaf: there a trust
    /// domain proves nothing, and only clusters with a root of their own are known by it.
    pub fn of(plan: &'p InboundPlan, evidence: Evidence<'_>) -> Self {
        if !evidence.peer {
            return Self::Unknown;
        }
        let domain = evidence.identity.map(|identity| &identity.trust_domain);
        let fits =
            |location: &Location| location.trust_domain.is_none() || location.trust_domain.as_ref() == domain;
        if let Some(location) = evidence.issuer.and_then(|issuer| plan.issued_in(issuer)) {
            return if fits(location) { Self::Verified(location, By::Certificate) } else { Self::Unknown };
        }
        if let Some(location) = domain.and_then(|domain| plan.proven_by(domain)) {
            return Self::Verified(location, By::TrustDomain);
        }
        if let Some(location) = evidence.token.and_then(|cluster| plan.named(cluster)).filter(|at| fits(at)) {
            return Self::Verified(location, By::Token);
        }
        evidence.tag.and_then(|tag| plan.named(tag)).map_or(Self::Unknown, Self::Claimed)
    }

    /// The cluster, if it is known as well as demanded.
    pub fn known(self, demand: Demand) -> Option<&'p Location> {
        match (self, demand) {
            (Self::Verified(location, _), _) | (Self::Claimed(location), Demand::Claimed) => Some(location),
            (Self::Claimed(_), Demand::Verified) | (Self::Unknown, _) => None,
        }
    }

    /// Where the cluster is, however it is known.
    pub fn location(self) -> Option<&'p Location> {
        self.known(Demand::Claimed)
    }

    /// The cluster, however it is known.
    pub fn named(self) -> Option<&'p ClusterName> {
        self.location().map(|location| &location.name)
    }

    /// How well the cluster is known, as answers, logs and cases say it.
    pub fn level(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Claimed(_) => "claimed",
            Self::Verified(_, By::Certificate) => "verified by certificate",
            Self::Verified(_, By::TrustDomain) => "verified by trust domain",
            Self::Verified(_, By::Token) => "verified by token",
        }
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named() {
            None => out.write_str(self.level()),
            Some(cluster) => write!(out, "{cluster}, {}", self.level()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mesh;

    const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: home}
spec:
  meshes:
  - {name: abroad, trustDomain: us.example}
  clusters:
  - {name: eu-1, network: n1}
  - {name: eu-2, network: n1}
  - {name: us-1, network: n1, mesh: abroad}
";

    /// What a plan makes of an issuer, the trust domain of an identity, a token and a tag; `-` is none.
    fn source(mesh: &str, [issuer, domain, token, tag]: [&str; 4]) -> String {
        let mesh = Mesh::read("mesh.yaml", mesh).0.unwrap();
        let plans = crate::compile(&mesh, &[]).0.unwrap();
        let said = |text: &str| Some(text.to_owned()).filter(|text| text != "-");
        let identity: Option<Identity> =
            said(domain).map(|domain| format!("spiffe://{domain}/ns/a/sa/b").parse().unwrap());
        let issuer = said(issuer).map(|name| format!("L={name},CN=Intermediate CA,O=Istio"));
        let signed = [token, tag].map(said);
        let evidence = Evidence {
            peer: true,
            issuer: issuer.as_deref(),
            identity: identity.as_ref(),
            token: signed[0].as_deref(),
            tag: signed[1].as_deref(),
        };
        let plan = &plans[&"eu-1".parse().unwrap()].inbound;
        let unseen = Source::of(plan, Evidence { peer: false, ..evidence });
        assert_eq!(unseen, Source::Unknown, "without a certificate nothing counts");
        Source::of(plan, evidence).to_string()
    }

    #[test]
    fn the_strongest_evidence_decides() {
        for (evidence, wanted) in [
            (["eu-1", "cluster.local", "eu-2", "eu-2"], "eu-1, verified by certificate"),
            (["us-1", "us.example", "eu-2", "eu-2"], "us-1, verified by certificate"),
            // A CA that signs for a domain that is not its own, whatever else is said.
            (["eu-1", "us.example", "us-1", "us-1"], "unknown"),
            (["us-1", "cluster.local", "eu-1", "eu-1"], "unknown"),
            (["us-1", "-", "us-1", "us-1"], "unknown"),
            // An issuer that cannot be read, or that no cluster has.
            (["-", "us.example", "eu-2", "eu-2"], "us-1, verified by trust domain"),
            (["mars", "us.example", "-", "-"], "us-1, verified by trust domain"),
            (["-", "cluster.local", "eu-2", "eu-1"], "eu-2, verified by token"),
            (["mars", "cluster.local", "eu-2", "eu-1"], "eu-2, verified by token"),
            // A token of a cluster that this identity cannot be of, or of none.
            (["-", "cluster.local", "us-1", "eu-1"], "eu-1, claimed"),
            (["-", "-", "eu-1", "eu-1"], "eu-1, claimed"),
            (["-", "cluster.local", "mars", "-"], "unknown"),
            (["-", "mars.example", "eu-1", "-"], "unknown"),
            (["-", "cluster.local", "-", "eu-2"], "eu-2, claimed"),
            (["-", "cluster.local", "-", "mars"], "unknown"),
        ] {
            assert_eq!(source(MESH, evidence), wanted, "{evidence:?}");
        }
    }

    #[test]
    fn a_trust_domain_under_a_root_that_others_have_too_proves_nothing() {
        let shared = MESH.replace(", mesh: abroad", ", trustDomain: us.example");
        let shared = shared.replace("  meshes:\n  - {name: abroad, trustDomain: us.example}\n", "");
        for (evidence, wanted) in [
            (["us-1", "us.example", "-", "-"], "us-1, verified by certificate"),
            (["-", "us.example", "-", "-"], "unknown"),
            (["mars", "us.example", "-", "us-1"], "us-1, claimed"),
            (["-", "us.example", "us-1", "-"], "us-1, verified by token"),
            (["-", "us.example", "eu-1", "-"], "unknown"),
        ] {
            assert_eq!(source(&shared, evidence), wanted, "{evidence:?}");
        }
    }

    #[test]
    fn where_all_share_a_trust_domain_it_tells_nothing() {
        let shared = MESH.replace("  meshes:\n  - {name: abroad, trustDomain: us.example}\n", "");
        let shared = shared.replace(", mesh: abroad", "");
        let alone = MESH.lines().filter(|line| !line.contains("eu-2") && !line.contains("us-1"));
        let alone: String = alone.map(|line| format!("{line}\n")).collect();
        for mesh in [&shared, &alone] {
            assert_eq!(source(mesh, ["-", "cluster.local", "-", "-"]), "unknown");
            assert_eq!(source(mesh, ["-", "-", "eu-1", "-"]), "eu-1, verified by token");
        }
    }
}
