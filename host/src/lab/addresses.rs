//! Who has which loopback address.

use std::net::{Ipv4Addr, TcpListener};

use super::error::LabError;

/// The port on `127.X.0.1` whose holder owns lab number X.
const LOCK_PORT: u16 = 15999;
const FIRST_LAB: u8 = 10;
const LABS: u32 = 241;

const GATEWAY: u8 = 15;
const FIRST_SERVICE: u8 = 20;
const FIRST_CLIENT: u8 = 100;

/// The addresses of one lab: 127.X.0.0/16, of which cluster number c has 127.X.c.0/24.
///
/// They are ours as long as this value lives: it holds a listener that no other lab can bind.
#[derive(Debug)]
pub(super) struct Addresses {
    lab: u8,
    _lock: TcpListener,
}

impl Addresses {
    /// Claims the first free lab number, counting from one that differs between processes.
    pub(super) fn claim() -> Result<Self, LabError> {
        let start = std::process::id();
        for step in 0..LABS {
            let Ok(offset) = u8::try_from(start.wrapping_add(step) % LABS) else { continue };
            let lab = FIRST_LAB.saturating_add(offset);
            if let Ok(lock) = TcpListener::bind((Ipv4Addr::new(127, lab, 0, 1), LOCK_PORT)) {
                return Ok(Self { lab, _lock: lock });
            }
        }
        Err(LabError::NoAddresses)
    }

    pub(super) fn pod_cidr(&self, cluster: usize) -> String {
        format!("{}/24", self.at(cluster, 0))
    }

    pub(super) fn gateway(&self, cluster: usize) -> Ipv4Addr {
        self.at(cluster, GATEWAY)
    }

    pub(super) fn service(&self, cluster: usize, service: usize) -> Ipv4Addr {
        self.at(cluster, FIRST_SERVICE.saturating_add(octet(service)))
    }

    pub(super) fn client(&self, cluster: usize, client: usize) -> Ipv4Addr {
        self.at(cluster, FIRST_CLIENT.saturating_add(octet(client)))
    }

    fn at(&self, cluster: usize, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.lab, octet(cluster).saturating_add(1), host)
    }
}

/// A blueprint is checked to be small enough for an octet each.
fn octet(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_labs_never_share_an_address() {
        let (one, other) = (Addresses::claim().expect("one"), Addresses::claim().expect("other"));
        assert_ne!(one.gateway(0), other.gateway(0));
    }

    #[test]
    fn a_number_is_free_again_when_its_lab_is_gone() {
        let lab = Addresses::claim().expect("one").lab;
        TcpListener::bind((Ipv4Addr::new(127, lab, 0, 1), LOCK_PORT)).expect("free again");
    }

    #[test]
    fn every_cluster_has_its_own_slash_24() {
        let addresses = Addresses::claim().expect("lab");
        let x = addresses.lab;
        assert_eq!(addresses.pod_cidr(0), format!("127.{x}.1.0/24"));
        assert_eq!(addresses.gateway(1), Ipv4Addr::new(127, x, 2, 15));
        assert_eq!(addresses.service(1, 3), Ipv4Addr::new(127, x, 2, 23));
        assert_eq!(addresses.client(0, 0), Ipv4Addr::new(127, x, 1, 100));
    }
}
