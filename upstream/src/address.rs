//! Which addresses and names are public, so that a registry may redirect there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is public: not of this machine, a private network, or a cloud's metadata
/// service. An IPv6 address that contains an IPv4 address counts as the IPv4 address.
///
/// Source: IANA's special-purpose registries for
/// [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry/iana-ipv4-special-registry.xhtml)
/// and
/// [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry/iana-ipv6-special-registry.xhtml).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether a name only exists in private networks: it has one part, or one of the domains that are
/// reserved for them. For names that are not resolved here.
///
/// Source: RFC [6761](https://www.rfc-editor.org/rfc/rfc6761#section-6.3) (`localhost`),
/// [6762](https://www.rfc-editor.org/rfc/rfc6762#section-3) (`local`),
/// [8375](https://www.rfc-editor.org/rfc/rfc8375) (`home.arpa`), and ICANN's
/// [resolution](https://www.icann.org/en/board-activities-and-meetings/materials/approved-resolutions-special-meeting-of-the-icann-board-29-07-2024-en)
/// on `internal`.
pub fn is_private_name(host: &str) -> bool {
    const DOMAINS: [&str; 4] = [".localhost", ".local", ".home.arpa", ".internal"];
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_address = host.starts_with('[') || name.parse::<Ipv4Addr>().is_ok();
    !is_address && (!name.contains('.') || DOMAINS.iter().any(|domain| name.ends_with(domain)))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..] // this network, private use, loopback
            | [100, 64..=127, ..] // carrier-grade NAT
            | [169, 254, ..] // link-local, with the metadata services
            | [172, 16..=31, ..] // private use
            | [192, 0, 0 | 2, _] // protocol assignments, documentation
            | [192, 88, 99, _] // 6to4 relays
            | [192, 168, ..] // private use
            | [198, 18 | 19, ..] // benchmarking
            | [198, 51, 100, _]
            | [203, 0, 113, _] // documentation
            | [224..=255, ..] // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // IPv4-mapped, NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2001, 0..0x200, ..] // protocol assignments, with Teredo, which hides an IPv4 address
        | [0x2001, 0xdb8, ..]
        | [0x3fff, 0..0x1000, ..] => false, // documentation
        [0x2000..=0x3fff, ..] => true, // global unicast
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_public() {
        let cases = [
            ("an address of the internet", "93.184.215.14", true),
            ("the last before 10/8", "9.255.255.255", true),
            ("the first after 100.64/10", "100.128.0.0", true),
            ("the first after 172.16/12", "172.32.0.0", true),
            ("the last before multicast", "223.255.255.255", true),
            ("unspecified", "0.0.0.0", false),
            ("this network", "0.1.2.3", false),
            ("private, 10/8", "10.0.0.1", false),
            ("carrier-grade NAT, first", "100.64.0.0", false),
            ("carrier-grade NAT, last", "100.127.255.255", false),
            ("loopback", "127.0.0.1", false),
            ("loopback, not the usual one", "127.255.255.254", false),
            ("EC2's metadata service", "169.254.169.254", false),
            ("ECS's credentials", "169.254.170.2", false),
            ("private, 172.16/12, first", "172.16.0.0", false),
            ("private, 172.16/12, last", "172.31.255.255", false),
            ("protocol assignments", "192.0.0.8", false),
            ("documentation, 192.0.2/24", "192.0.2.1", false),
            ("a 6to4 relay", "192.88.99.1", false),
            ("private, 192.168/16", "192.168.1.1", false),
            ("benchmarking", "198.19.0.1", false),
            ("documentation, 198.51.100/24", "198.51.100.1", false),
            ("documentation, 203.0.113/24", "203.0.113.1", false),
            ("multicast", "224.0.0.1", false),
            ("reserved", "240.0.0.1", false),
            ("broadcast", "255.255.255.255", false),
            ("an IPv6 address of the internet", "2606:4700::6810:84e5", true),
            ("the first address after the protocols'", "2001:200::1", true),
            ("IPv6 unspecified", "::", false),
            ("IPv6 loopback", "::1", false),
            ("IPv4-compatible loopback", "::127.0.0.1", false),
            ("IPv4-mapped internet", "::ffff:93.184.215.14", true),
            ("IPv4-mapped loopback", "::ffff:127.0.0.1", false),
            ("IPv4-mapped metadata service", "::ffff:169.254.169.254", false),
            ("NAT64 of the internet", "64:ff9b::93.184.215.14", true),
            ("NAT64 of the metadata service", "64:ff9b::169.254.169.254", false),
            ("NAT64 for local use", "64:ff9b:1::93.184.215.14", false),
            ("6to4 of the internet", "2002:5db8:d70e::1", true),
            ("6to4 of 10.0.0.1", "2002:a00:1::1", false),
            ("6to4 of 127.0.0.1", "2002:7f00:1::1", false),
            ("Teredo", "2001:0:5db8:d70e::1", false),
            ("ORCHID", "2001:20::1", false),
            ("IPv6 documentation", "2001:db8::1", false),
            ("IPv6 documentation, the newer", "3fff:fff::1", false),
            ("discard", "100::1", false),
            ("segment routing", "5f00::1", false),
            ("unique-local", "fd12:3456:789a::1", false),
            ("EC2's metadata service by IPv6", "fd00:ec2::254", false),
            ("IPv6 link-local", "fe80::1", false),
            ("site-local", "fec0::1", false),
            ("IPv6 multicast", "ff02::1", false),
        ];
        for (description, address, expected) in cases {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{description}: {address}");
        }
    }

    #[test]
    fn names_of_private_networks_are_not_public() {
        let cases = [
            ("registry.example", false),
            ("REGISTRY.example.", false),
            ("10.0.0.1", false), // an address, which is checked as such
            ("[fd00::1]", false),
            ("notlocal.example", false),
            ("mylocal", true),
            ("registry", true),
            ("localhost", true),
            ("a.LocalHost.", true),
            ("printer.local", true),
            ("router.home.arpa", true),
            ("metadata.google.internal", true),
            ("", true),
        ];
        for (host, expected) in cases {
            assert_eq!(is_private_name(host), expected, "{host}");
        }
    }
}
