// SPDX-License-Identifier: GPL-2.0

//! The newest root of a volume, and its loss on all drives: what was durable is to be found from the root before it, and the journal
//! behind that.

use crate::fleet::Fleet;
use crate::host::Chance;
use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::layout;
use embr_engine::hash::Scalar;
use embr_engine::units::Generation;
use embr_engine::volume::probe;

/// Damages all copies of the newest root. Says whether there is one before it: mkfs writes only one.
pub fn lose_newest(fleet: &Fleet, seed: u64) -> Result<bool, String> {
    let mut newest = Generation(0);
    for drive in fleet.drives() {
        let member = probe(&drive, &Scalar).map_err(|why| why.to_string())?;
        newest = newest.max(member.root.generation);
    }
    if newest <= Generation(1) {
        return Ok(false);
    }
    let chance = Chance::new(seed);
    for drive in fleet.drives() {
        for ring in layout::rings(drive.size()) {
            let at = layout::slot_at(ring, layout::ring_slot(newest)).ok_or("no such slot")?;
            let mut root = [0; layout::ROOT_SIZE];
            // Of a root that rotted, most is there; of one that was never written, nothing.
            if chance.below(2) == 0 {
                drive.read(at, &mut root).map_err(|why| why.to_string())?;
                root[chance.below(layout::ROOT_SIZE)] ^= 1 << chance.below(8);
            }
            drive.write(at, &root).map_err(|why| why.to_string())?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;
    use embr_engine::format::geometry::Geometry;
    use embr_engine::units::Bytes;

    #[test]
    fn the_root_before_is_the_newest_one_then() {
        let fleet = Fleet::new(1, &[Bytes(32 << 20); 2]);
        machine::make(1, &fleet, Geometry::new(1, 1).expect("a geometry")).expect("a volume");
        assert_eq!(lose_newest(&fleet, 1), Ok(false), "there is only one");
        let mounted = machine::mount(1, &fleet, machine::READ_WRITE).expect("mounted");
        mounted.close().expect("closed");
        let newest = || {
            let drives = fleet.drives();
            let roots = drives
                .iter()
                .map(|drive| probe(drive, &Scalar).expect("a member").root.generation.0);
            roots.collect::<Vec<_>>()
        };
        let before = newest();
        assert_eq!(lose_newest(&fleet, 1), Ok(true));
        let expected: Vec<u64> = before.iter().map(|generation| generation - 1).collect();
        assert_eq!(newest(), expected);
    }
}
