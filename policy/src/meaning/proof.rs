//! What evidence proves otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Decision, Evidence, Kind, Meaning, Running, Witness};
use crate::name::{Identity, TrustDomain};
use crate::plan::InboundPlan;
use crate::source::{self, Source};

pub(super) fn compare<'p>(before: &'p Running, after: &'p Running, meaning: &mut Meaning) {
    let mut told: Vec<[&InboundPlan; 2]> = Vec::new();
    for namespace in [None].into_iter().chain(before.apart.keys().chain(after.apart.keys()).map(Some)) {
        let plan = |running: &'p Running| {
            namespace.and_then(|own| running.apart.get(own)).or(running.inbound.as_ref())
        };
        let (Some(before), Some(after)) = (plan(before), plan(after)) else { continue };
        let is_told = |[one, other]: &[&InboundPlan; 2]| one.knows_as(before) && other.knows_as(after);
        if before.knows_as(after) || told.iter().any(is_told) {
            continue;
        }
        told.push([before, after]);
        if !before.knows_sources_as(after) {
            sources([before, after], meaning);
        }
        keys([before, after], meaning);
    }
    let signed = [before, after].map(|running| running.outbound.as_ref().and_then(|plan| plan.tokens()));
    if let [Some(before), Some(after)] = signed
        && before != after
    {
        meaning.untold.push(format!(
            "tokens that are signed: for {} s and {} -> for {} s and {}",
            before.life, before.trust_domain, after.life, after.trust_domain
        ));
    } else if signed.iter().filter(|signed| signed.is_some()).count() == 1 {
        let which = if signed.iter().skip(1).any(Option::is_some) { "begin to be" } else { "are no more" };
        meaning.untold.push(format!("tokens that {which} signed"));
    }
}

impl InboundPlan {
    /// Whether sources and tokens are told by it as by another.
    fn knows_as(&self, other: &Self) -> bool {
        self.knows_sources_as(other) && self.tokens() == other.tokens()
    }
}

/// What stands for everything that no plan names.
const STRANGER: &str = "CN=nobody-that-a-plan-names";
const ABROAD: &str = "nowhere.example";

fn sources(plans: [&InboundPlan; 2], meaning: &mut Meaning) {
    let mut found: BTreeMap<(String, Decision, Decision), (Vec<String>, Evidence)> = BTreeMap::new();
    for (subject, evidence) in evidence(plans) {
        let [before, after] = plans.map(|plan| proven(plan, &evidence));
        if before != after {
            let domain = evidence.identity.as_ref().map_or("none", |identity| identity.trust_domain.as_str());
            let domain = if domain == ABROAD { "any other" } else { domain };
            let entry =
                found.entry((subject, before, after)).or_insert_with(|| (Vec::new(), evidence.clone()));
            if !entry.0.iter().any(|known| known == domain) {
                entry.0.push(domain.to_owned());
            }
        }
    }
    for ((subject, before, after), (domains, witness)) in found {
        let what = vec![format!("identity of trust domain {}", domains.join(", "))];
        let (kind, witness) = (Kind::Proves, Witness::Proof(witness));
        meaning.changes.push(Change { kind, subject, who: Vec::new(), what, before, after, witness });
    }
}

fn proven(plan: &InboundPlan, evidence: &Evidence) -> Decision {
    let evidence = source::Evidence {
        peer: true,
        issuer: evidence.issuer.as_deref(),
        identity: evidence.identity.as_ref(),
        token: evidence.token.as_deref(),
        tag: evidence.tag.as_deref(),
    };
    Decision { allow: true, reason: Source::of(plan, evidence).to_string(), route: None, shadow: None }
}

/// All that two plans tell apart: each issuer with each trust domain, alone and beside a token or a tag; each token with each
/// trust domain; each tag.
fn evidence(plans: [&InboundPlan; 2]) -> Vec<(String, Evidence)> {
    let both = || plans.into_iter();
    let issuers: BTreeSet<String> = both()
        .flat_map(|plan| plan.issuers.keys())
        .map(ToString::to_string)
        .chain([STRANGER.to_owned()])
        .collect();
    let clusters: BTreeSet<String> =
        both().flat_map(|plan| plan.clusters()).map(|location| location.name.to_string()).collect();
    let said = both().flat_map(|plan| plan.domains.keys());
    let homes = both().flat_map(|plan| plan.clusters()).filter_map(|location| location.trust_domain.as_ref());
    let domains: BTreeSet<TrustDomain> = said.chain(homes).cloned().chain(ABROAD.parse().ok()).collect();
    let identities: Vec<Option<Identity>> = [None].into_iter().chain(domains.iter().map(identity)).collect();
    let first = || clusters.first().cloned();
    let mut all = Vec::new();
    for identity in &identities {
        let of = |issuer: Option<&String>, token: Option<String>, tag: Option<String>| Evidence {
            issuer: issuer.cloned(),
            identity: identity.clone(),
            token,
            tag,
        };
        for issuer in &issuers {
            let words =
                if issuer == STRANGER { "any other issuer".to_owned() } else { format!("issuer {issuer}") };
            all.push((format!("a certificate of {words}"), of(Some(issuer), None, None)));
            all.push((format!("a certificate of {words}, with a token"), of(Some(issuer), first(), None)));
            all.push((format!("a certificate of {words}, with a tag"), of(Some(issuer), None, first())));
        }
        for cluster in &clusters {
            all.push((format!("a token of {cluster}"), of(None, Some(cluster.clone()), None)));
            all.push((format!("a tag that says {cluster}"), of(None, None, Some(cluster.clone()))));
        }
    }
    all
}

fn identity(domain: &TrustDomain) -> Option<Identity> {
    Some(Identity {
        trust_domain: domain.clone(),
        namespace: "default".parse().ok()?,
        service_account: "default".parse().ok()?,
    })
}

/// Keys are not decided by: nobody can sign with one here.
fn keys(plans: [&InboundPlan; 2], meaning: &mut Meaning) {
    let [before, after] = plans.map(|plan| {
        let keys = plan.tokens().into_iter().flat_map(|tokens| tokens.keys.iter());
        let named = keys
            .flat_map(|(cluster, keys)| keys.iter().map(move |(id, key)| (format!("{cluster}/{id}"), *key)));
        named.collect::<BTreeMap<_, _>>()
    });
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let how = match (before.get(name), after.get(name)) {
            (None, Some(_)) => "is believed from now on",
            (Some(_), None) => "is believed no more",
            (Some(one), Some(other)) if one != other => "is another of the same name",
            _ => continue,
        };
        meaning.untold.push(format!("tokens by their keys: {name} {how}"));
    }
    let [before, after] = plans.map(|plan| plan.tokens().map(|tokens| tokens.life));
    if let (Some(before), Some(after)) = (before, after)
        && before != after
    {
        meaning.untold.push(format!("tokens by their age: {before} s -> {after} s are believed"));
    }
}
