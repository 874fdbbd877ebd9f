// SPDX-License-Identifier: GPL-2.0

//! What the fuzz targets share: the bytes of a fuzzer as the system areas of a disk.

use embr_engine::env::WritableDevice as _;
use embr_engine::format::layout;
use embr_engine::format::seal;
use embr_engine::hash::Scalar;
use embr_engine::units::Bytes;
use embr_engine::volume;
use embrfs_sim::disk::Disk;

/// Puts the fuzzer's bytes over a sound volume's superblock and root, seals them again if the first byte says so (or hardly
/// any input would get past the seal), and probes and assembles what comes of it.
pub fn volume(input: &[u8]) {
    let Some((control, input)) = input.split_first() else {
        return;
    };
    let disks = embrfs_sim::mutant::volume(1, 1, 0, &[layout::MIN_DEVICE]);
    let Some(disk) = disks.first() else { return };
    let half = input.len().min(layout::SUPERBLOCK_SIZE);
    let (superblock, root) = input.split_at(half);
    for (_, at) in layout::superblocks(layout::MIN_DEVICE) {
        overlay(
            disk,
            at,
            layout::SUPERBLOCK_SIZE,
            superblock,
            control & 1 != 0,
        );
    }
    for ring in layout::rings(layout::MIN_DEVICE) {
        if let Some(at) = layout::slot_at(ring, 1) {
            overlay(disk, at, layout::ROOT_SIZE, root, control & 2 != 0);
        }
    }
    if let Ok(member) = volume::probe(disk, &Scalar) {
        let members = [member];
        if let Ok(volume) = volume::assemble(&members) {
            assert!(volume.missing().count() <= u32::from(volume.geometry().parity()));
        }
    }
}

/// Changes the structure at `at`: the fuzzer's bytes are added to the ones there, so that zeros leave it sound.
fn overlay(disk: &Disk, at: Bytes, length: usize, input: &[u8], reseal: bool) {
    use embr_engine::env::Device as _;
    let mut bytes = vec![0; length];
    if disk.read(at, &mut bytes).is_err() {
        return;
    }
    for (to, from) in bytes.iter_mut().zip(input) {
        *to = to.wrapping_add(*from);
    }
    if reseal {
        seal::apply(&Scalar, &mut bytes, at);
    }
    // The place lies within the disk: it was just read.
    let _ = disk.write(at, &bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_target_takes_any_input() {
        super::volume(&[]);
        super::volume(&[3]);
        for control in 0..4u8 {
            for fill in [0u8, 1, 0x80, 0xff] {
                let mut input = vec![fill; 24 << 10];
                input[0] = control;
                super::volume(&input);
            }
        }
    }
}
