//! The book of addresses: each name that was ever given one keeps it.
//!
//! A sidecar knows a TCP connection by its address alone, and applications keep what DNS said; so an address must
//! never move to another service while anything remembers it. A new name takes the place that its hash says, or the
//! next free one; a name that is gone keeps its place, until there is no other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use policy::cidr::Cidr;
use policy::mesh::GlobalNames;
use policy::name::Service;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ISTIO_NAMESPACE, ManifestError, metadata};

/// The name of the ConfigMap that holds the book in every cluster.
pub const CONFIG_MAP: &str = "isthmus-global-addresses";

/// Why a book cannot be read, or not together with another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Something else in its place.
    #[error(
        "the ConfigMap {CONFIG_MAP} has {key:?} with {value:?}: each key is a service, each value its IPv4 address"
    )]
    Entry {
        /// The key.
        key: String,
        /// What stands there.
        value: String,
    },
    /// Books that were kept apart.
    #[error(
        "{service} has address {one} in one cluster and {other} in another: delete the entry of one of them"
    )]
    Differs {
        /// The service.
        service: Service,
        /// Its address in one book.
        one: Ipv4Addr,
        /// Its address in another.
        other: Ipv4Addr,
    },
    /// An address that leads to two services.
    #[error("{one} and {other} both have address {address}: delete the entry of one of them")]
    Shared {
        /// A service.
        one: Service,
        /// Another.
        other: Service,
        /// The address of both.
        address: Ipv4Addr,
    },
}

/// The addresses of services, those of services that are gone among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book(BTreeMap<Service, Ipv4Addr>);

impl Book {
    /// The address of a service.
    pub fn get(&self, service: &Service) -> Option<Ipv4Addr> {
        self.0.get(service).copied()
    }

    /// Every service with its address.
    pub fn iter(&self) -> impl Iterator<Item = (&Service, Ipv4Addr)> {
        self.0.iter().map(|(service, address)| (service, *address))
    }

    /// Reads the ConfigMap that [`Book::config_map`] makes.
    pub fn read(config_map: &Value) -> Result<Self, BookError> {
        let mut book = Self::default();
        for (key, value) in config_map["data"].as_object().into_iter().flatten() {
            let entry = (key.parse::<Service>().ok(), value.as_str().and_then(|text| text.parse().ok()));
            let (Some(service), Some(address)) = entry else {
                return Err(BookError::Entry { key: key.clone(), value: value.to_string() });
            };
            book.0.insert(service, address);
        }
        book.unshared()
    }

    /// Takes over what another book has: that of a cluster that was behind.
    pub fn merge(mut self, other: &Self) -> Result<Self, BookError> {
        for (service, address) in other.iter() {
            match self.get(service) {
                Some(one) if one != address => {
                    return Err(BookError::Differs { service: service.clone(), one, other: address });
                }
                Some(_) | None => self.0.insert(service.clone(), address),
            };
        }
        self.unshared()
    }

    fn unshared(self) -> Result<Self, BookError> {
        let mut owners: BTreeMap<Ipv4Addr, &Service> = BTreeMap::new();
        for (other, address) in self.iter() {
            if let Some(one) = owners.insert(address, other) {
                return Err(BookError::Shared { one: one.clone(), other: other.clone(), address });
            }
        }
        Ok(self)
    }

    /// Gives an address to every service that has none. Those outside of the range are given anew: the range was
    /// changed.
    pub fn place(mut self, names: &GlobalNames, wanted: &BTreeSet<Service>) -> Result<Self, ManifestError> {
        let range = names.range;
        self.0.retain(|_, address| position(*address, names).is_some());
        let mut owners: BTreeMap<Ipv4Addr, Service> =
            self.iter().map(|(service, address)| (address, service.clone())).collect();
        for service in wanted {
            if self.0.contains_key(service) {
                continue;
            }
            let found = probe(service, names, |address| !owners.contains_key(&address)).or_else(|| {
                let is_gone =
                    |address: Ipv4Addr| owners.get(&address).is_some_and(|owner| !wanted.contains(owner));
                probe(service, names, is_gone)
            });
            let address = found.ok_or_else(|| ManifestError::Full { range, service: service.clone() })?;
            if let Some(gone) = owners.insert(address, service.clone()) {
                self.0.remove(&gone);
            }
            self.0.insert(service.clone(), address);
        }
        Ok(self)
    }

    /// The book as every cluster holds it.
    pub fn config_map(&self) -> Value {
        let data: BTreeMap<String, String> =
            self.iter().map(|(service, address)| (service.to_string(), address.to_string())).collect();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(CONFIG_MAP, ISTIO_NAMESPACE),
            "data": data,
        })
    }
}

/// The first address that will do, from the place that the service's hash says onward.
fn probe(service: &Service, names: &GlobalNames, will_do: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let room = names.room();
    let start = hash(service).checked_rem(room)?;
    let onward = (start..room).chain(0..start);
    onward.filter_map(|position| address(names.range, position)).find(|address| will_do(*address))
}

/// The first 32 bits of a hash that is the same everywhere and for ever.
fn hash(service: &Service) -> u32 {
    let digest = Sha256::digest(service.to_string());
    digest.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The address at a position, from 0; the first of the range is nobody's.
fn address(range: Cidr, position: u32) -> Option<Ipv4Addr> {
    match range.address(position.checked_add(1)?) {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Where an address stands in the range.
fn position(address: Ipv4Addr, names: &GlobalNames) -> Option<u32> {
    let IpAddr::V4(first) = names.range.address(0) else { return None };
    let position = address.to_bits().checked_sub(first.to_bits())?.checked_sub(1)?;
    (position < names.room()).then_some(position)
}

#[cfg(test)]
mod tests;
