// SPDX-License-Identifier: GPL-2.0

//! Choosing k and m, and what to say when that cannot be, or wastes space.

use super::FAILED;
use super::USAGE;
use crate::cli::mkfs::Args;
use crate::describe;
use crate::failure::Failure;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::geometry::MAX_DATA;
use embr_engine::format::geometry::MAX_PARITY;
use embr_engine::format::layout;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use std::collections::BTreeMap;

/// What was asked for, or what suits so many devices.
pub(super) fn choose(args: &Args, devices: usize) -> Result<Geometry, Failure> {
    let (data, parity) = match (args.bundle, args.replicas) {
        (Some(bundle), _) => bundle,
        (None, Some(replicas)) => (1, replicas.saturating_sub(1)),
        (None, None) => default_for(devices),
    };
    Geometry::new(data, parity).map_err(|why| {
        Failure::new(FAILED, "geometry", why.to_string()).advise(possible_with(devices))
    })
}

/// The failure domain of each device; none if nothing was said of them.
pub(super) fn domains(args: &Args, devices: usize) -> Result<&[u32], Failure> {
    let domains = args.failure_domains.as_slice();
    if domains.is_empty() || domains.len() == devices {
        return Ok(domains);
    }
    let given = domains.len();
    Err(Failure::new(
        USAGE,
        "usage",
        format!("--failure-domains says {given} numbers for {devices} devices: each device needs one, in the order of the devices"),
    ))
}

/// Of failure domains that have more devices than may be missing.
pub(super) fn crowded(geometry: Geometry, domains: &[u32]) -> Vec<String> {
    let mut sizes: BTreeMap<u32, u8> = BTreeMap::new();
    for domain in domains.iter().filter(|d| **d != 0) {
        *sizes.entry(*domain).or_default() += 1;
    }
    let parity = geometry.parity();
    let crowded = sizes.iter().filter(|(_, count)| **count > parity);
    let tell = |(domain, count): (&u32, &u8)| {
        format!("failure domain {domain} has {count} devices, of which {parity} may be missing: without all of it, the volume does not mount")
    };
    crowded.map(tell).collect()
}

/// Two devices may be lost wherever there are enough for that to be cheap.
pub(super) fn default_for(devices: usize) -> (u8, u8) {
    match devices {
        0 | 1 => (1, 0),
        2 => (1, 1),
        3 => (2, 1),
        n => (u8::try_from(n - 2).unwrap_or(MAX_DATA).min(MAX_DATA), 2),
    }
}

/// The widest bundle for each number of losses.
pub(super) fn possible_with(devices: usize) -> String {
    let widest = (0..=MAX_PARITY).filter_map(|parity| {
        let data = devices
            .checked_sub(usize::from(parity))
            .filter(|k| *k > 0)?;
        Geometry::new(u8::try_from(data).unwrap_or(MAX_DATA).min(MAX_DATA), parity).ok()
    });
    let list: Vec<String> = widest.map(|g| g.to_string()).collect();
    let plural = if devices == 1 { "" } else { "s" };
    format!(
        "with {devices} device{plural}, the widest bundles are {}; narrower ones do as well",
        list.join(", ")
    )
}

/// How much of one device can be used.
pub(super) struct Share {
    pub(super) usable: Blocks,
    pub(super) wasted: Blocks,
}

/// What each device can give. A device takes at most one fragment of each stripe, so what it has beyond the number of
/// stripes is of no use.
pub(super) fn shares(geometry: Geometry, sizes: &[Bytes]) -> Vec<Share> {
    let room = || sizes.iter().map(|s| layout::allocatable(*s));
    let stripes = geometry.stripes(room()).0;
    room()
        .map(|blocks| Share {
            usable: Blocks(blocks.0.min(stripes)),
            wasted: Blocks(blocks.0.saturating_sub(stripes)),
        })
        .collect()
}

/// Advice where a noticeable part of the devices can never be used.
pub(super) fn advice(geometry: Geometry, sizes: &[Bytes], names: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let total: u64 = sizes.iter().map(|s| layout::allocatable(*s).0).sum();
    let shares = shares(geometry, sizes);
    let wasted: u64 = shares.iter().map(|s| s.wasted.0).sum();
    if wasted < total / 100 {
        return lines;
    }
    for (share, name) in shares.iter().zip(names).filter(|(s, _)| s.wasted.0 > 0) {
        lines.push(format!(
            "{name}: {} cannot be used, because too few other devices are as large",
            describe::blocks(share.wasted)
        ));
    }
    lines.push("devices of more equal size would hold more".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_possible() {
        for n in 1..=64 {
            let (k, m) = default_for(n);
            let geometry = Geometry::new(k, m).unwrap();
            assert!(usize::from(geometry.width()) <= n);
        }
        assert_eq!(default_for(6), (4, 2));
        assert_eq!(default_for(40), (16, 2));
    }

    #[test]
    fn widest_bundles() {
        assert!(possible_with(3).contains("3+0, 2+1, 1+2;"));
        assert!(possible_with(64).contains("16+4"));
    }

    #[test]
    fn a_large_device_among_small_ones_is_pointed_out() {
        let mib = |n: u64| Bytes(n << 20);
        let names = ["a", "b", "c"].map(str::to_owned);
        assert!(advice(Geometry::new(2, 1).unwrap(), &[mib(64); 3], &names).is_empty());
        let lines = advice(
            Geometry::new(2, 1).unwrap(),
            &[mib(64), mib(64), mib(512)],
            &names,
        );
        assert!(
            lines[0].starts_with("c: 436.0 MiB cannot be used"),
            "{lines:?}"
        );
        // What the first has no room for is narrower.
        assert!(advice(
            Geometry::new(2, 1).unwrap(),
            &[mib(34), mib(512), mib(512)],
            &names
        )
        .is_empty());
    }
}
