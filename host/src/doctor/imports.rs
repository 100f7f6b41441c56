//! What clusters call of control planes that theirs does not know: `.global` names, and services of other meshes.
//!
//! What should be there is what would be rendered; people who write it by hand may call it otherwise, so it is looked for by
//! the hosts and not by the names of objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy::mesh::GlobalNames;
use policy::name::ClusterName;
use serde_json::Value;

use super::{Examined, Failure, Found, Kind, Object, Seen, Skip, Visit};
use crate::manifest::addresses::{Book, CONFIG_MAP};
use crate::manifest::{ISTIO_NAMESPACE, Wanted, wanted};

const MAKE: &str = "`isthmus mesh apply` makes it; `isthmus mesh render` writes it down";

/// What should be there, by control plane.
#[derive(Debug)]
pub(super) struct Imports(Result<BTreeMap<ClusterName, Vec<Wanted>>, String>);

impl Imports {
    /// The same that would be rendered, with the addresses that clusters remember.
    pub(super) fn of(all: Examined<'_>) -> Self {
        let inventories = all.seen.values().filter_map(|seen| match seen {
            Seen::Objects(inventory) => Some(inventory),
            Seen::Nothing(_) | Seen::Absent(_) => None,
        });
        let maps = inventories.filter_map(|inventory| inventory.of(Kind::ConfigMap).ok()).flatten();
        let books = maps.filter(|map| is_book(map)).filter_map(book);
        // Books that contradict each other are told by the check of addresses.
        let merged = books.fold(Book::default(), |all, one| all.clone().merge(&one).unwrap_or(all));
        Self(wanted(all.mesh, all.plans, merged).map_err(|why| why.to_string()))
    }

    /// What the clusters of a control plane call of others.
    pub(super) fn into(&self, primary: &ClusterName) -> Result<&[Wanted], Skip> {
        let all = self.0.as_ref().map_err(|why| Skip::unseen(why.clone()))?;
        Ok(all.get(primary).map_or(&[], Vec::as_slice))
    }
}

fn is_book(map: &Object) -> bool {
    map.name() == CONFIG_MAP && map.namespace() == ISTIO_NAMESPACE
}

fn book(map: &Object) -> Option<Book> {
    Book::read(map.at("")?).ok()
}

/// What should be in the cluster; nothing, where its objects are in another or it calls nobody.
fn imports<'v>(visit: &Visit<'v>) -> Result<&'v [Wanted], Skip> {
    let imports = visit.imports.into(&visit.cluster.name)?;
    if imports.is_empty() {
        return Err(Skip::idle("it calls no service of a control plane that its own does not know"));
    }
    Ok(imports)
}

/// The hosts of an entry.
pub(super) fn hosts(entry: &Value) -> impl Iterator<Item = &str> {
    entry.pointer("/spec/hosts").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn texts<'o>(object: &'o Object, pointer: &str) -> impl Iterator<Item = &'o str> + use<'o> {
    object.list(pointer).iter().filter_map(Value::as_str)
}

/// The entry that has a host of the wanted one.
fn found<'v>(visit: &Visit<'v>, wanted: &Wanted) -> Result<Option<&'v Object>, Skip> {
    let hosts: BTreeSet<&str> = hosts(&wanted.entry).collect();
    let mut entries = visit.of(Kind::ServiceEntry)?.iter();
    Ok(entries.find(|entry| texts(entry, "/spec/hosts").any(|host| hosts.contains(host))))
}

/// Every wanted entry that is there.
fn pairs<'v>(visit: &Visit<'v>) -> Result<Vec<(&'v Wanted, &'v Object)>, Skip> {
    let mut pairs = Vec::new();
    for wanted in imports(visit)? {
        pairs.extend(found(visit, wanted)?.map(|entry| (wanted, entry)));
    }
    Ok(pairs)
}

pub(super) fn present(visit: &Visit<'_>) -> Found {
    let imports = visit.imports.into(&visit.cluster.name)?;
    let entries = visit.of(Kind::ServiceEntry)?;
    let there: BTreeSet<&str> = entries.iter().flat_map(|entry| texts(entry, "/spec/hosts")).collect();
    let mut failures = Vec::new();
    for host in imports.iter().flat_map(|wanted| hosts(&wanted.entry)).filter(|host| !there.contains(host)) {
        let message = format!("no ServiceEntry has the host {host}: nobody here can call it");
        failures.push(Failure::error(message, MAKE));
    }
    let listed: BTreeSet<&str> = imports.iter().flat_map(|wanted| hosts(&wanted.entry)).collect();
    // The egress gateway alone knows these, by names that are made of the others.
    let inner = |host: &str| host.ends_with(".egress.global");
    for entry in entries {
        let stale = texts(entry, "/spec/hosts")
            .find(|host| host.ends_with(".global") && !listed.contains(host) && !inner(host));
        let Some(host) = stale else { continue };
        failures.push(Failure::warning(
            format!(
                "ServiceEntry {} has the host {host}, and no other control plane shows such a service here",
                entry.shown()
            ),
            "list the service in mesh.yaml with its clusters; or delete the entry, which leads to nobody who answers",
        ));
    }
    if imports.is_empty() && failures.is_empty() {
        return Err(Skip::idle("it calls no service of a control plane that its own does not know"));
    }
    Ok(failures)
}

/// Where an endpoint leads: an address, with the port that each port of the service is led to.
fn way(endpoint: &Value) -> (&str, BTreeSet<u64>) {
    let ports = endpoint.get("ports").and_then(Value::as_object).into_iter().flatten();
    let address = endpoint.get("address").and_then(Value::as_str).unwrap_or_default();
    (address, ports.filter_map(|(_, port)| port.as_u64()).collect())
}

pub(super) fn ways(visit: &Visit<'_>) -> Found {
    let mut failures = Vec::new();
    for (wanted, entry) in pairs(visit)? {
        let shown = entry.shown();
        if entry.text("/spec/location") != Some("MESH_INTERNAL") {
            let message = format!("ServiceEntry {shown} is not MESH_INTERNAL: requests leave without mTLS");
            failures.push(Failure::error(
                message,
                "say `location: MESH_INTERNAL`: a gateway passes mTLS on, and nothing else",
            ));
        }
        let empty = Vec::new();
        let wanted = wanted.entry.pointer("/spec/endpoints").and_then(Value::as_array).unwrap_or(&empty);
        let wanted: BTreeMap<&str, BTreeSet<u64>> = wanted.iter().map(way).collect();
        let there = entry.list("/spec/endpoints");
        let missing = wanted.keys().filter(|address| there.iter().all(|one| way(one).0 != **address));
        for address in missing {
            let message =
                format!("ServiceEntry {shown} does not lead to {address}, where the service is reached too");
            failures.push(Failure::error(message, MAKE));
        }
        failures.extend(there.iter().filter_map(|one| astray(one, &shown, &wanted)));
    }
    Ok(failures)
}

/// What is wrong with an endpoint.
fn astray(endpoint: &Value, shown: &str, wanted: &BTreeMap<&str, BTreeSet<u64>>) -> Option<Failure> {
    let (address, ports) = way(endpoint);
    let Some(gateway) = wanted.get(address) else {
        return Some(Failure::error(
            format!(
                "ServiceEntry {shown} leads to {address}, where mesh.yaml knows no gateway to the service"
            ),
            "take the endpoint away, or say in mesh.yaml that the gateway is there",
        ));
    };
    let listed = |ports: &BTreeSet<u64>| ports.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if ports != *gateway {
        let said = if ports.is_empty() { "the service's own ports".to_owned() } else { listed(&ports) };
        return Some(Failure::error(
            format!(
                "ServiceEntry {shown} leads to {said} of {address}, and the gateway listens on {}",
                listed(gateway)
            ),
            "map each port of the endpoint to that of the gateway, which tells services apart by SNI",
        ));
    }
    let is_marked =
        endpoint.get("labels").and_then(|labels| labels.get("security.istio.io/tlsMode")?.as_str())
            == Some("istio");
    (!is_marked).then(|| {
        Failure::warning(
            format!("the endpoint {address} of ServiceEntry {shown} does not say that it takes mTLS"),
            "label it `security.istio.io/tlsMode: istio`: without, sidecars send plain text where no DestinationRule says otherwise",
        )
    })
}

/// The SNI of each port that a DestinationRule says.
fn snis(rule: &Value) -> BTreeMap<u64, &str> {
    let policy = rule.pointer("/spec/trafficPolicy");
    let ports = policy.and_then(|policy| policy.get("portLevelSettings")?.as_array()).into_iter().flatten();
    ports.filter_map(port_sni).collect()
}

fn port_sni(port: &Value) -> Option<(u64, &str)> {
    Some((port.pointer("/port/number")?.as_u64()?, port.pointer("/tls/sni")?.as_str()?))
}

pub(super) fn sni(visit: &Visit<'_>) -> Found {
    let mut failures = Vec::new();
    let rules = visit.of(Kind::DestinationRule)?;
    let imports = imports(visit)?.iter().filter_map(|wanted| wanted.rule.as_ref());
    let mut count = 0;
    for wanted in imports {
        count += 1;
        let host = wanted.pointer("/spec/host").and_then(Value::as_str).unwrap_or_default();
        let rule = rules.iter().find(|rule| rule.text("/spec/host") == Some(host));
        let said = rule.and_then(|rule| rule.at("")).map(snis).unwrap_or_default();
        for (port, sni) in snis(wanted).into_iter().filter(|(port, sni)| said.get(port) != Some(sni)) {
            let asked = said
                .get(&port)
                .map_or_else(|| format!("outbound_.{port}_._.{host}"), |sni| (*sni).to_owned());
            let message = match rule {
                None => format!(
                    "no DestinationRule is for {host}: gateways are asked for {asked}, and know {sni}"
                ),
                Some(rule) => {
                    format!("DestinationRule {} asks gateways for {asked}, and they know {sni}", rule.shown())
                }
            };
            failures.push(Failure::error(message, MAKE));
        }
    }
    if count == 0 {
        return Err(Skip::idle("it calls services by the names that their clusters have for them"));
    }
    Ok(failures)
}

pub(super) fn addresses(visit: &Visit<'_>) -> Found {
    imports(visit)?;
    let own = visit.of(Kind::ConfigMap)?.iter().find(|map| is_book(map));
    let Some(own) = own else {
        let message = format!(
            "there is no ConfigMap {ISTIO_NAMESPACE}/{CONFIG_MAP}: nobody remembers which address is whose"
        );
        return Ok(vec![Failure::warning(message, MAKE)]);
    };
    let own = match own.at("").map_or_else(|| Ok(Book::default()), Book::read) {
        Ok(own) => own,
        Err(why) => {
            return Ok(vec![Failure::error(why.to_string(), "put it right by what the other clusters have")]);
        }
    };
    let mut failures = Vec::new();
    for other in visit.others() {
        let maps = visit.other(&other.name).and_then(|seen| seen.of(Kind::ConfigMap).ok());
        let theirs = maps.into_iter().flatten().find(|map| is_book(map)).and_then(book);
        if let Some(why) = theirs.and_then(|theirs| own.clone().merge(&theirs).err()) {
            failures.push(Failure::error(
                format!("its book of addresses and that of {} contradict each other: {why}", other.name),
                "delete the younger entry in the ConfigMap, and run `isthmus mesh apply`",
            ));
        }
    }
    for (wanted, entry) in pairs(visit)? {
        failures.extend(misplaced(wanted, entry, &own));
    }
    failures.extend(shared(visit)?);
    Ok(failures)
}

fn misplaced(wanted: &Wanted, entry: &Object, book: &Book) -> Vec<Failure> {
    let shown = entry.shown();
    let addresses: Vec<&str> = texts(entry, "/spec/addresses").collect();
    let mut failures = Vec::new();
    if let Some(said) = book.get(&wanted.service).map(|address| address.to_string())
        && !addresses.contains(&said.as_str())
    {
        let found = if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") };
        failures.push(Failure::error(
            format!(
                "{} has the address {said} in the book, and ServiceEntry {shown} has {found}",
                wanted.service
            ),
            MAKE,
        ));
    }
    let loopback = addresses
        .iter()
        .find(|text| text.parse::<IpAddr>().is_ok_and(|one| GlobalNames::LOOPBACK.contains(one)));
    if let Some(address) = loopback {
        failures.push(Failure::warning(
            format!("ServiceEntry {shown} has the address {address}: what goes to loopback never reaches a sidecar"),
            "take a range such as 240.0.0.0/16 (`global: {range: ...}` in mesh.yaml)",
        ));
    }
    failures
}

/// Addresses that two entries have: sidecars know TCP services by address alone.
fn shared(visit: &Visit<'_>) -> Found {
    let mut owners: BTreeMap<&str, &Object> = BTreeMap::new();
    let mut failures = Vec::new();
    for entry in visit.of(Kind::ServiceEntry)? {
        for address in texts(entry, "/spec/addresses") {
            let Some(other) = owners.insert(address, entry) else { continue };
            if texts(other, "/spec/hosts").eq(texts(entry, "/spec/hosts")) {
                continue;
            }
            failures.push(Failure::error(
                format!(
                    "ServiceEntries {} and {} both have the address {address}",
                    other.shown(),
                    entry.shown()
                ),
                "give each an address of its own: what is sent to one may arrive at the other",
            ));
        }
    }
    Ok(failures)
}

pub(super) fn names(visit: &Visit<'_>) -> Found {
    let known = visit.known();
    let services = visit.mesh().services();
    let own: BTreeMap<String, &ClusterName> = services
        .filter_map(|(service, listing)| {
            let runs = listing.clusters.iter().find(|cluster| known.contains(cluster))?;
            Some((service.host(), runs))
        })
        .collect();
    let mut failures = Vec::new();
    for entry in visit.of(Kind::ServiceEntry)? {
        let taken = texts(entry, "/spec/hosts").find_map(|host| Some((host, own.get(host)?)));
        let Some((host, cluster)) = taken else { continue };
        failures.push(Failure::error(
            format!("ServiceEntry {} has the host {host}, which {cluster} runs: requests go to either, by turns", entry.shown()),
            "let one of the two have another name; with `global` in mesh.yaml that of the other control plane ends in .global",
        ));
    }
    Ok(failures)
}
