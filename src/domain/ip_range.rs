//! Addresses of the network that the configuration names: one, or a range such as `10.0.0.0/24`.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IpRangeError {
    /// Its address or its length cannot be read.
    #[error("{0:?} is not an IP address or a range of them")]
    Unreadable(String),
    /// The length is that of no range, or that of all addresses.
    #[error("a range of {0} has a length from 1 to {1}")]
    Length(IpAddr, u8),
    /// The address does not begin the range.
    #[error("a range of this length begins with {0}")]
    Begin(IpAddr),
}

/// An address, or a range of them. Never all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    length: u8,
}

impl IpRange {
    /// Reads `10.0.0.5`, `10.0.0.0/24`, `fd00::5` or `fd00::/64`.
    ///
    /// # Errors
    /// [`IpRangeError`].
    pub fn parse(text: &str) -> Result<Self, IpRangeError> {
        let unreadable = || IpRangeError::Unreadable(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(length.parse::<u8>().map_err(|_| unreadable())?))
            }
            Some(_) => return Err(unreadable()),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| unreadable())?;
        let longest = longest(address);
        let length = length.unwrap_or(longest);
        if !(1..=longest).contains(&length) {
            return Err(IpRangeError::Length(address, longest));
        }
        let first = masked(address, length);
        if first == address { Ok(Self { first, length }) } else { Err(IpRangeError::Begin(first)) }
    }

    /// True if the address is in the range. An IPv4 address written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        longest(address) == longest(self.first) && masked(address, self.length) == self.first
    }
}

const fn longest(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Returns the address with zeros behind the first `length` bits, which are at least one.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits() & (u32::MAX << (32 - u32::from(length.clamp(1, 32))));
            IpAddr::V4(bits.into())
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << (128 - u32::from(length.clamp(1, 128))));
            IpAddr::V6(bits.into())
        }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl<'de> Deserialize<'de> for IpRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_what_begins_like_it_and_nothing_else() {
        for (range, inside, outside) in [
            ("10.0.0.5", &["10.0.0.5", "::ffff:10.0.0.5"][..], &["10.0.0.4", "10.0.0.6", "::5"][..]),
            ("10.0.0.0/24", &["10.0.0.0", "10.0.0.255"], &["10.0.1.0", "9.255.255.255", "::ffff:10.0.1.0"]),
            ("10.0.0.4/31", &["10.0.0.4", "10.0.0.5"], &["10.0.0.3", "10.0.0.6"]),
            ("128.0.0.0/1", &["255.255.255.255"], &["127.255.255.255", "8000::"]),
            ("fd00:1::/64", &["fd00:1::", "fd00:1::ffff:1:2:3"], &["fd00:1:0:1::", "fd00::", "10.0.0.1"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
        ] {
            let parsed = IpRange::parse(range).unwrap();
            let contains = |address: &&str| parsed.contains(address.parse().unwrap());
            assert!(inside.iter().all(contains), "{range}: {inside:?}");
            assert!(!outside.iter().any(contains), "{range}: {outside:?}");
            assert_eq!(IpRange::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn whatever_trusts_everybody_or_is_mistyped_is_refused() {
        for wrong in [
            "",
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.5/24",
            "fd00::1/64",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/ 8",
            "10.0.0.0/255.0.0.0",
            "proxy",
            "10.0.0.0-10.0.0.9",
            "10.0.0.5:80",
            "[::1]",
        ] {
            assert!(IpRange::parse(wrong).is_err(), "{wrong}");
        }
        let said = IpRange::parse("10.0.0.5/24").unwrap_err().to_string();
        assert_eq!(said, "a range of this length begins with 10.0.0.0");
    }
}
