//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Blank;

/// A text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a range of addresses: write it like 10.42.0.0/16 or fd00:42::/48, with no bit set past the prefix"
)]
pub struct CidrError(String);

/// All addresses that share their first bits (RFC 4632).
///
/// ```
/// let pods: policy::cidr::Cidr = "10.42.0.0/16".parse()?;
/// assert!(pods.contains("10.42.7.9".parse().unwrap()) && !pods.contains("10.43.0.1".parse().unwrap()));
/// # Ok::<(), policy::cidr::CidrError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of IPv4 addresses that share so many bits with this one, whose others are zero.
    pub(crate) const fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address: IpAddr::V4(address), prefix }
    }

    /// Whether the address is one of the range. An IPv4 address written as IPv6 counts as what it is.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4()
            && high_bits(self.address, self.prefix) == high_bits(address, self.prefix)
    }

    /// Whether some address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// An address of the range: the first, and so many further on, which stay inside it.
    pub fn address(self, further: u32) -> IpAddr {
        match self.address {
            IpAddr::V4(first) => {
                let free = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((first.to_bits() | (further & free)).into())
            }
            IpAddr::V6(first) => {
                let free = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((first.to_bits() | (u128::from(further) & free)).into())
            }
        }
    }

    /// How many leading bits are fixed: the more, the narrower.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

/// The first `count` bits of an address, at the top of a number.
fn high_bits(address: IpAddr, count: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    bits & u128::MAX.checked_shl(128 - u32::from(count)).unwrap_or(0)
}

impl Blank for Cidr {
    const BLANK: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let read = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let tidy = prefix <= longest && high_bits(address, prefix) == high_bits(address, longest);
            tidy.then_some(Self { address, prefix })
        };
        read().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        for (left, right, overlap) in [
            ("10.0.0.0/8", "10.42.0.0/16", true),
            ("10.42.0.0/16", "10.43.0.0/16", false),
            ("0.0.0.0/0", "192.168.1.0/24", true),
            ("::/0", "10.0.0.0/8", false),
            ("fd00::/8", "fd00:1::/32", true),
        ] {
            assert_eq!(cidr(left).overlaps(cidr(right)), overlap, "{left} {right}");
            assert_eq!(cidr(right).overlaps(cidr(left)), overlap, "{right} {left}");
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_still_in_its_range() {
        assert!(cidr("10.42.0.0/16").contains("::ffff:10.42.1.1".parse().unwrap()));
        assert!(cidr("10.42.1.1/32").contains("10.42.1.1".parse().unwrap()));
    }

    #[test]
    fn every_address_of_a_range_is_in_it() {
        for range in ["10.42.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "fd00::1/128"] {
            for further in [0, 1, 300, u32::MAX] {
                assert!(cidr(range).contains(cidr(range).address(further)), "{range} {further}");
            }
        }
        assert_eq!(cidr("10.42.0.0/16").address(10).to_string(), "10.42.0.10");
    }

    #[test]
    fn a_range_with_stray_bits_is_refused() {
        for bad in ["10.42.0.1/16", "10.0.0.0/33", "10.0.0.0", "10.0/8", "x/8", "fd00::1/64", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
